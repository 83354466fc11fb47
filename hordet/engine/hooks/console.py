"""The lines of a run on the console: what it is, how it goes on, what it reached."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import IterBasedTrainLoop, Runner
from tqdm import tqdm

from hordet.engine.loops import count_left
from hordet.engine.summary import describe_run, format_rate, shorten_path
from hordet.evaluation.headline import describe_metrics
from hordet.registry import HOOKS


@HOOKS.register_module()
class ConsoleHook(Hook):
    """Print what a run is, a line an interval, a line a validation, a line a new best checkpoint.

    The interval is that of the run's LoggerHook. Lines go to standard output, in the main process
    alone; a bar of tqdm steps aside for them. The log and `vis_data` of the run are LoggerHook's.
    """

    priority = "BELOW_NORMAL"  # as LoggerHook: after the loss is known, before the rate moves on

    def __init__(self) -> None:
        """Start with nothing told."""
        self._speaks = False
        self._interval = 50
        self._told = False  # what the run is
        self._best: dict[str, Any] = {}
        # Moments, of time.perf_counter: of the first iteration, of the last line, of a validation.
        self._began, self._line, self._evaluation = 0.0, 0.0, 0.0
        self._done = 0  # iterations of this process
        self._since = 0  # iterations since the last line

    def before_run(self, runner: Runner) -> None:
        """Find out who speaks, and how often."""
        self._speaks = is_main_process()
        self._interval = next(
            (hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)),
            self._interval,
        )

    def before_train(self, runner: Runner) -> None:
        """Tell what is trained."""
        self._introduce(runner, "train")
        self._best = _best_checkpoints(runner)
        self._done = self._since = 0
        self._began = self._line = time.perf_counter()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Tell how the training stands, where LoggerHook does and after the last iteration."""
        self._done += 1
        self._since += 1
        if not self._speaks:
            return
        steps = count_left(runner, batch_idx)
        if not self._is_due(runner, batch_idx, steps):
            return
        now = time.perf_counter()
        step = (now - self._line) / self._since
        parts = [_moment(runner, 1, steps), *self._describe_step(runner), f"{_short(step, 2)} s/it"]
        left = (now - self._began) / self._done * steps
        if steps > 0:
            parts.append(f"{_describe_duration(left)} left")
        self._print("  ".join(parts))
        self._line, self._since = now, 0

    def before_val(self, runner: Runner) -> None:
        """Tell what is validated, if no training has told it."""
        self._introduce(runner, "val")
        self._evaluation = time.perf_counter()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Tell the metrics."""
        self._print_metrics([_moment(runner, 0), "validation"], metrics)

    def after_val(self, runner: Runner) -> None:
        """Tell which checkpoint is the best now; CheckpointHook has written it."""
        best = _best_checkpoints(runner)
        for key, path in best.items():
            if path != self._best.get(key):
                self._print(f"{_moment(runner, 0)}  the best so far: {shorten_path(str(path))}")
        self._best = best
        # Time left counts validations, except one that a resumed run begins with; seconds an
        # iteration count none.
        now = time.perf_counter()
        self._line += now - self._evaluation
        if not self._done:
            self._began = now

    def before_test(self, runner: Runner) -> None:
        """Tell what is tested."""
        self._introduce(runner, "test")
        self._evaluation = time.perf_counter()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Tell how far a long test is."""
        if not (self._speaks and self.every_n_inner_iters(batch_idx, self._interval)):
            return
        done, total = batch_idx + 1, len(runner.test_dataloader)
        step = (time.perf_counter() - self._evaluation) / done
        parts = [f"batch {done}/{total}", f"{_short(step, 2)} s/it"]
        if done < total:
            parts.append(f"{_describe_duration(step * (total - done))} left")
        self._print("  ".join(parts))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Tell the metrics."""
        self._print_metrics(["test"], metrics)

    def _introduce(self, runner: Runner, mode: str) -> None:
        if self._speaks and not self._told:
            self._print("\n".join(describe_run(runner, mode)))
        self._told = True

    def _is_due(self, runner: Runner, batch_idx: int, left: int) -> bool:
        if not left:
            return True
        if self.every_n_inner_iters(batch_idx, self._interval):
            return True
        # An epoch shorter than the interval has its line at its end.
        length = len(runner.train_dataloader)
        by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
        return by_epoch and batch_idx + 1 == length < self._interval

    def _describe_step(self, runner: Runner) -> list[str]:
        """Describe the loss since the last line, and what else is known of the last iteration."""
        parts, scalars = [], runner.message_hub.log_scalars
        if "train/loss" in scalars:
            parts.append(f"loss {_short(scalars['train/loss'].mean(self._since), 3)}")
        if "train/grad_norm" in scalars:
            parts.append(f"gradient norm {_short(scalars['train/grad_norm'].current(), 2)}")
        # The first entry is the optimizer's own rate; then come those of the parameter groups.
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        parts.append(f"lr {format_rate(rate)}")
        if torch.cuda.is_available():
            parts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        return parts

    def _print_metrics(self, begin: list[str], metrics: dict[str, float] | None) -> None:
        told = describe_metrics(metrics or {})
        seconds = _describe_duration(time.perf_counter() - self._evaluation, 1)
        self._print("  ".join(filter(None, [*begin, told, seconds])))

    def _print(self, text: str) -> None:
        """Write lines; bars of tqdm on the terminal go off the line first and come back below."""
        if self._speaks:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()  # into a pipe or a file, too, while the run goes on


def _moment(runner: Runner, ahead: int, left: int = 0) -> str:
    """Name the point of training; '' if there is none.

    `ahead`: 1 within an iteration, else 0; `left`: iterations after that one.
    """
    # Runner.epoch would build the training loop, data included, of a run that only validates.
    loop = runner._train_loop
    if loop is None or isinstance(loop, dict):
        return ""
    if isinstance(loop, IterBasedTrainLoop):
        return f"iteration {runner.iter + ahead}/{runner.max_iters}"
    iteration = f"iteration {runner.iter + ahead}/{runner.iter + ahead + left}"
    epoch = f"epoch {runner.epoch + ahead}/{runner.max_epochs}"
    return f"{epoch}  {iteration}" if ahead else epoch


def _best_checkpoints(runner: Runner) -> dict[str, Any]:
    """Return what mmengine's CheckpointHook calls its best files."""
    info = runner.message_hub.runtime_info
    return {key: value for key, value in info.items() if key.startswith("best_ckpt")}


def _short(value: float, digits: int) -> str:
    """Return a number with that many significant digits, and all before the point."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def _describe_duration(seconds: float, decimals: int = 0) -> str:
    """Return a time such as 12.3 s, 2 min 20 s, 5 h 12 min or 3 d 4 h."""
    if seconds < 60 - 0.5 * 10**-decimals:
        return f"{seconds:.{decimals}f} s"
    whole = round(seconds)
    for word, size, smaller, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size} {word} {whole % size // part} {smaller}"
    return f"{whole} s"
