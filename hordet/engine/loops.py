"""mmengine's training loops, which can also be resumed within an epoch, and its test loops.

On one process, a run that is killed and resumed equals an uninterrupted run bit for bit: the loops
know how many batches of a pass over the data are done, how to skip them without loading them, and
whether a validation is still due. Batches, hooks and their order are mmengine's.
"""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop, Runner
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import TestLoop as MMEngineTestLoop
from mmengine.runner import ValLoop as MMEngineValLoop
from torch import nn
from torch.utils.data import DataLoader

from hordet.datasets.batch_sampler import PlacedBatchSampler, place_batches
from hordet.datasets.tolerant import explain_worker_errors
from hordet.engine.random_state import get_random_state, set_random_state
from hordet.errors import DatasetError
from hordet.registry import LOOPS


def count_left(runner: Runner, batch_idx: int | None = None) -> int:
    """Return the number of iterations that a training has still to do.

    Not `max_iters - iter`: those done may have been of another batch size, so that an epoch has
    another number of iterations now.

    Args:
        runner: Of a training.
        batch_idx: Within an iteration (of a hook's `after_train_iter`) its number in the epoch;
            None between two iterations.
    """
    loop = runner.train_loop
    if isinstance(loop, MMEngineIterBasedTrainLoop):
        return loop.max_iters - loop.iter - (batch_idx is not None)
    done = getattr(loop, "_batches", 0) if batch_idx is None else batch_idx + 1
    return (loop.max_epochs - loop.epoch) * len(loop.dataloader) - done


class _ResumableLoop(BaseLoop):
    """What both loops share: the position in the data, and resuming from it.

    Args:
        runner: The Runner.
        dataloader: A data loader, or the config of one.
        max_skipped: Number of broken images that a process skips before it stops.
        **kwargs: mmengine's options: max_epochs or max_iters, val_begin, val_interval, ...
    """

    dataloader: DataLoader
    val_interval: int
    val_begin: int

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, max_skipped: int = 10, **kwargs: Any
    ) -> None:
        """Build the data loader and start at the beginning."""
        if isinstance(dataloader, dict):
            dataloader = place_batches(dataloader, runner.seed, max_skipped)
        # mmengine's loop of iterations starts its workers here; they must leave signals to this
        # process, which a handler sees to that is there while they start. Afterwards the signals
        # are given back: a loop may be built and never run.
        hooks = [hook for hook in runner.hooks if hasattr(hook, "interruption")]
        for hook in hooks:
            hook.interruption.listen()
        try:
            # mmengine's loop comes next in the order of the base classes, and takes its options.
            super().__init__(runner, dataloader, **kwargs)
        finally:
            for hook in hooks:
                hook.interruption.stop_listening()
        self._pass, self._batches = 0, 0
        self._resumed = False
        self._resumed_state: dict | None = None
        self._before_validation: dict | None = None
        self._validation_due = False

    def get_position(self, validated: bool) -> dict:
        """Return the position in the data: batches done in this pass, their number and order.

        Args:
            validated: Whether the validation that is due at this position is done.
        """
        return dict(
            passes=self._pass,
            batches=self._batches,
            batches_per_pass=len(self.dataloader),
            sampler_seed=getattr(self._sampler, "seed", None),
            validated=validated,
        )

    def get_random_state(self, validated: bool) -> dict:
        """Return the random state to resume with: that before a validation if it is not done."""
        return get_random_state() if validated else self._before_validation or get_random_state()

    def resume_at(self, position: dict, state: dict | None) -> None:
        """Let the next `run` start where a checkpoint was written.

        Args:
            position: From `get_position`.
            state: From `get_random_state`; None if another number of processes wrote the
                checkpoint.
        """
        self._resumed = True
        before, now = position["batches_per_pass"], len(self.dataloader)
        self._pass, self._batches = position["passes"], position["batches"]
        if before != now:  # another batch size or number of processes: same share of the data
            self._batches = self._batches * now // before
        if position["sampler_seed"] is not None and hasattr(self._sampler, "seed"):
            self._sampler.seed = position["sampler_seed"]
        self._resumed_state = state
        self._validation_due = not position["validated"]

    def skip_validation(self) -> None:
        """Leave out the validation that a checkpoint has not done, such as of a stopped run."""
        self._validation_due = False

    @property
    def _sampler(self) -> Any:
        return getattr(self.dataloader.batch_sampler, "sampler", None)

    def _restore(self) -> None:
        """Set the random state of the checkpoint, once."""
        if self._resumed_state is not None:
            set_random_state(self._resumed_state)
            self._resumed_state = None

    def _begin_pass(self) -> Iterator[Any]:
        """Iterate over the batches of this pass that are not done."""
        sampler = self.dataloader.batch_sampler
        if isinstance(sampler, PlacedBatchSampler):
            sampler.begin = (self._pass, self._batches)
            return iter(self.dataloader)
        batches = iter(self.dataloader)  # another sampler: its batches must be loaded and dropped
        for _ in range(self._batches):
            next(batches)
        return batches

    def _read_batch(self, batches: Iterator[Any], *end: Any) -> Any:
        """Return the next batch, or `end` after the last.

        Raises:
            DatasetError: It cannot be read, as when a worker was killed; the state after the last
                iteration is saved before, by a hook with `save_now`.
        """
        try:
            with explain_worker_errors():
                return next(batches, *end)
        except DatasetError as error:
            savers = [hook.save_now for hook in self.runner.hooks if hasattr(hook, "save_now")]
            saved = savers[0](self.runner) if savers else None
            if saved is None:
                raise
            raise DatasetError(
                f"{str(error).rstrip('.')}. Iteration {self.runner.iter} is saved in {saved}; the "
                "same command with --resume goes on from there"
            ) from error

    def _validate_every(self, interval: int, length: int) -> None:
        """Validate once an interval, whatever intervals the config has; at the end in any case."""
        self.val_interval, self.val_begin = interval, min(self.val_begin, length)
        self.dynamic_milestones, self.dynamic_intervals = [0], [interval]

    def _validate(self, due: bool) -> None:
        """Validate if it is due and the run has a validation."""
        if self.runner.val_loop is None or not due:
            return
        # A checkpoint that a signal causes meanwhile repeats this validation from its start.
        self._before_validation = get_random_state()
        self.runner.val_loop.run()
        self._before_validation = None


@LOOPS.register_module()
class EpochBasedTrainLoop(_ResumableLoop, MMEngineEpochBasedTrainLoop):
    """mmengine's EpochBasedTrainLoop, which can resume within an epoch."""

    def run(self) -> nn.Module:
        """Train, with a validation every `val_interval`."""
        self.runner.call_hook("before_train")
        self._decide_current_val_interval()
        if self._validation_due and self._batches == 0:
            self._restore()
            self._validate(self._is_validation_time())
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate(self._is_validation_time())
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train an epoch, or the rest of a resumed epoch."""
        if self._batches == 0:
            self._restore()
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        self._pass = self._epoch
        batches = self._begin_pass()
        self._restore()  # only now, because making an iterator draws a random number
        while True:
            batch = self._read_batch(batches, None)
            if batch is None:
                break
            self._batches += 1
            self.run_iter(self._batches - 1, batch)
        self._batches = 0
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def change_length(self, max_epochs: int, val_interval: int) -> None:
        """Set another number of epochs than the config's, and another interval of validation."""
        self._max_epochs = max_epochs
        self._max_iters = max_epochs * len(self.dataloader)
        self._validate_every(val_interval, max_epochs)

    def _is_validation_time(self) -> bool:
        at = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        return self._epoch >= self.val_begin and at


@LOOPS.register_module()
class IterBasedTrainLoop(_ResumableLoop, MMEngineIterBasedTrainLoop):
    """mmengine's IterBasedTrainLoop, which skips batches that are done without loading them."""

    def run(self) -> nn.Module:
        """Train, with a validation every `val_interval`."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        if self._iter > 0:
            self._move_iterator()
        self._decide_current_val_interval()
        if self._validation_due:
            self._validate(self._is_validation_time())
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            batch = self._read_batch(self.dataloader_iterator)
            if self._pass != self.dataloader_iterator._epoch:
                self._pass, self._batches = self.dataloader_iterator._epoch, 0
            self._batches += 1
            self.run_iter(batch)
            self._decide_current_val_interval()
            self._validate(self._is_validation_time())
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _move_iterator(self) -> None:
        """Replace the iterator that mmengine made at the start by one at the position."""
        if not self._resumed:  # the checkpoint is of mmengine itself and has no position
            endless = isinstance(self._sampler, InfiniteSampler)
            length = len(self.dataloader)
            self._pass, self._batches = (0, self._iter) if endless else divmod(self._iter, length)
        if hasattr(self._sampler, "set_epoch"):
            self._sampler.set_epoch(self._pass)
        iterator = self.dataloader_iterator
        iterator._iterator = None  # ends its workers
        iterator._epoch = self._pass
        iterator._iterator = self._begin_pass()
        self._restore()

    def change_length(self, max_iters: int, val_interval: int) -> None:
        """Set another number of iterations than the config's, and another validation interval."""
        self._max_iters = max_iters
        self._validate_every(val_interval, max_iters)

    def _is_validation_time(self) -> bool:
        at = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        return self._iter >= self.val_begin and at


class _MixedLoop(BaseLoop):
    """What the loops without training share: `fp16=True` is bfloat16, on every device.

    mmengine's loops take torch's own type for autocast: float16 on CUDA, bfloat16 on a CPU. A model
    would be tested in another precision than `--amp` trains it in, and float16 ends at 65,504.
    """

    def run(self) -> Any:
        """Run the whole loop.

        Raises:
            RuntimeError: `fp16` is set, and the GPU has no bfloat16.
        """
        before = torch.get_autocast_dtype("cuda")
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            return super().run()
        finally:
            torch.set_autocast_dtype("cuda", before)


@LOOPS.register_module()
class ValLoop(_MixedLoop, MMEngineValLoop):
    """mmengine's ValLoop, whose `fp16=True` means bfloat16 on every device."""


@LOOPS.register_module()
class TestLoop(_MixedLoop, MMEngineTestLoop):
    """mmengine's TestLoop, whose `fp16=True` means bfloat16 on every device."""
