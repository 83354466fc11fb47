"""A progress bar for the person who watches."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from hordet.engine.loops import count_left
from hordet.registry import HOOKS

LINE = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {elapsed}, {remaining} left{postfix}"
LOSS_WINDOW = 20  # iterations; one batch alone jumps too much to read


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show one line with progress, loss, learning rate and time left.

    It appears where a person watches: standard error is a terminal and this is the main process.
    Elsewhere the hook does nothing, and mmengine's LoggerHook writes its lines as always. The
    time left counts the validations so far at their average share of the time.
    """

    def __init__(self) -> None:
        """Start without a bar."""
        self._train_bar: tqdm | None = None
        self._eval_bar: tqdm | None = None
        self._handlers: list[logging.Handler] = []

    @staticmethod
    def _watched() -> bool:
        return is_main_process() and sys.stderr.isatty()

    def _make_room(self, record: logging.LogRecord) -> bool:
        """Take the bars off the line a record is written to; their next step draws them below."""
        for bar in (self._train_bar, self._eval_bar):
            if bar is not None:
                bar.clear()
        return True

    @staticmethod
    def _open(name: str, total: int, done: int = 0, leave: bool = False) -> tqdm:
        return tqdm(
            desc=name,
            total=total,
            initial=done,
            leave=leave,
            position=0,  # one line: the training bar stands still while another runs
            bar_format=LINE,
            dynamic_ncols=True,
            smoothing=0,  # average over the whole run, validations included
        )

    def before_run(self, runner: Runner) -> None:
        """Make the console's log lines clear the bar before they are written."""
        if not self._watched():
            return
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream.isatty():
                handler.addFilter(self._make_room)
                self._handlers.append(handler)

    def after_run(self, runner: Runner) -> None:
        """Leave the log handlers as they were."""
        for handler in self._handlers:
            handler.removeFilter(self._make_room)
        self._handlers.clear()

    def before_train(self, runner: Runner) -> None:
        """Open the bar of the whole training, where a resumed run stands already."""
        if self._watched():
            total = runner.iter + count_left(runner)
            self._train_bar = self._open("train", total, runner.iter, leave=True)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Advance the bar by one iteration."""
        if self._train_bar is None:
            return
        loss = runner.message_hub.get_scalar("train/loss").mean(LOSS_WINDOW)
        # The first entry is the optimizer's own rate; then come those of the parameter groups.
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        # A budget of minutes changes the length after the first iterations.
        self._train_bar.total = runner.iter + 1 + count_left(runner, batch_idx)
        self._train_bar.set_postfix_str(f"loss {loss:.4f}, lr {rate:.2e}", refresh=False)
        self._train_bar.update()

    def after_train(self, runner: Runner) -> None:
        """Leave the full bar on the screen."""
        if self._train_bar is not None:
            self._train_bar.close()
            self._train_bar = None

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        """Open a bar for one pass over the validation or test set."""
        if mode != "train" and self._watched():
            loader = runner.val_dataloader if mode == "val" else runner.test_dataloader
            if self._train_bar is not None:
                self._train_bar.clear()
            self._eval_bar = self._open(mode, len(loader))

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | dict[str, Any] | None = None,
        mode: str = "train",
    ) -> None:
        """Advance that bar, and close it before the metrics print their tables."""
        if self._eval_bar is None:
            return
        self._eval_bar.update()
        if self._eval_bar.n >= self._eval_bar.total:
            self._eval_bar.close()
            self._eval_bar = None
