"""What a Runner of mmengine says on the console: warnings and errors; the rest stays in its log."""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import FlexibleRunner, Runner
from torch.utils.data import DataLoader


def make_quiet(runner_class: type[Runner | FlexibleRunner]) -> type[Any]:
    """Return a Runner's class whose console shows warnings and errors alone.

    The environment, the config, the order of the hooks, the tables of metrics and the lines of
    LoggerHook go to the log file, and so does what data sets and metrics print.

    Args:
        runner_class: mmengine's `Runner` or `FlexibleRunner`.
    """
    return type(runner_class.__name__, (_QuietRunner, runner_class), {})


class _QuietRunner:
    """The part that both Runners share."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger of a Runner, quiet from its first line on."""
        return _silence_console(super().build_logger(*args, **kwargs))  # type: ignore[misc]

    def build_strategy(self, *args: Any, **kwargs: Any) -> Any:
        """Build a FlexibleRunner's strategy, which holds its logger."""
        strategy = super().build_strategy(*args, **kwargs)  # type: ignore[misc]
        _silence_console(strategy.logger)
        return strategy

    def build_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader; COCO's reader prints four lines."""
        with _log_prints():
            return super().build_dataloader(*args, **kwargs)  # type: ignore[misc]

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build an evaluator, whose metrics print neither here nor when they score."""
        with _log_prints():
            built = super().build_evaluator(evaluator)  # type: ignore[misc]
        built.evaluate = _log_prints()(built.evaluate)
        return built

    def load_or_resume(self) -> None:
        """Load a checkpoint; mmengine's loader prints where from."""
        with _log_prints():
            super().load_or_resume()  # type: ignore[misc]


def _silence_console(logger: MMLogger) -> MMLogger:
    """Let a logger's console show warnings and errors alone; its file gets all, as before."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_is_warning)
    return logger


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextlib.contextmanager
def _log_prints() -> Iterator[None]:
    """Send what is printed meanwhile to the log."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        if text := printed.getvalue().strip():
            MMLogger.get_current_instance().info(text)
