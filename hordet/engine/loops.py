"""Training loops that go on within an epoch: mmengine's, with a position.

A run that is killed and resumed equals the one in one go, bit for bit on one process: the loops
know how many batches of a pass over the data are done, how to skip these without loading them, and
which validation was still to come. Batches, hooks and their order are mmengine's.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from hordet.datasets.batch_sampler import PlacedBatchSampler, place_batches
from hordet.datasets.tolerant import explain_worker_errors
from hordet.engine.random_state import get_random_state, set_random_state
from hordet.registry import LOOPS


class _Position:
    """The part that both loops share: where the data stand, and going on from there.

    Args:
        runner: The Runner.
        dataloader: A data loader, or the config of one.
        max_skipped: How many broken images a process leaves out before it stops.
        **kwargs: mmengine's: max_epochs or max_iters, val_begin, val_interval, ...
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, max_skipped: int = 10, **kwargs: Any
    ) -> None:
        """See the class."""
        if isinstance(dataloader, dict):
            dataloader = place_batches(dataloader, runner.seed, max_skipped)
        super().__init__(runner, dataloader, **kwargs)
        self._pass, self._batches = 0, 0
        self._resumed = False
        self._resumed_state: dict | None = None
        self._before_validation: dict | None = None
        self._validation_due = False

    def position(self, validated: bool) -> dict:
        """Return where the data stand: batches done in this pass, of how many, in which order.

        Args:
            validated: Whether a validation that belongs to this moment is done.
        """
        return dict(
            passes=self._pass,
            batches=self._batches,
            batches_per_pass=len(self.dataloader),
            sampler_seed=getattr(self._sampler, "seed", None),
            validated=validated,
        )

    def get_random_state(self, validated: bool) -> dict:
        """Return the random state to go on from; before a validation that is to be done again."""
        return get_random_state() if validated else self._before_validation or get_random_state()

    def go_on_at(self, position: dict, state: dict | None) -> None:
        """Begin the next `run` where a checkpoint was written.

        Args:
            position: From `position`.
            state: From `get_random_state`; None: another number of processes wrote the checkpoint.
        """
        self._resumed = True
        before, now = position["batches_per_pass"], len(self.dataloader)
        self._pass, self._batches = position["passes"], position["batches"]
        if before != now:  # another batch size or number of processes: the same share of the data
            self._batches = self._batches * now // before
        if position["sampler_seed"] is not None and hasattr(self._sampler, "seed"):
            self._sampler.seed = position["sampler_seed"]
        self._resumed_state = state
        self._validation_due = not position["validated"]

    @property
    def _sampler(self) -> Any:
        return getattr(self.dataloader.batch_sampler, "sampler", None)

    def _restore(self) -> None:
        if self._resumed_state is not None:
            set_random_state(self._resumed_state)
            self._resumed_state = None

    def _begin_pass(self) -> Iterator[Any]:
        """Iterate over the batches of this pass that are still to come."""
        sampler = self.dataloader.batch_sampler
        if isinstance(sampler, PlacedBatchSampler):
            sampler.begin = (self._pass, self._batches)
            return iter(self.dataloader)
        batches = iter(self.dataloader)  # somebody else's loader: it can only read and forget
        for _ in range(self._batches):
            next(batches)
        return batches

    def _validate(self, due: bool) -> None:
        if self.runner.val_loop is None or not due:
            return
        # A checkpoint written meanwhile, on a signal, begins this validation anew.
        self._before_validation = get_random_state()
        self.runner.val_loop.run()
        self._before_validation = None


@LOOPS.register_module()
class EpochBasedTrainLoop(_Position, MMEngineEpochBasedTrainLoop):
    """mmengine's EpochBasedTrainLoop, which a resumed run enters within an epoch."""

    def run(self) -> nn.Module:
        """Train, validating at its times."""
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
        """Train an epoch, or what is left of it."""
        if self._batches == 0:
            self._restore()
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        self._pass = self._epoch
        batches = self._begin_pass()
        self._restore()  # only now: an iterator draws a number when it is made
        while True:
            with explain_worker_errors():
                batch = next(batches, None)
            if batch is None:
                break
            self._batches += 1
            self.run_iter(self._batches - 1, batch)
        self._batches = 0
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _is_validation_time(self) -> bool:
        at = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        return self._epoch >= self.val_begin and at


@LOOPS.register_module()
class IterBasedTrainLoop(_Position, MMEngineIterBasedTrainLoop):
    """mmengine's IterBasedTrainLoop, which skips what a resumed run has seen without loading it."""

    def run(self) -> nn.Module:
        """Train, validating at its times."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        if self._iter > 0:
            self._go_on()
        self._decide_current_val_interval()
        if self._validation_due:
            self._validate(self._is_validation_time())
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            with explain_worker_errors():
                batch = next(self.dataloader_iterator)
            if self._pass != self.dataloader_iterator._epoch:
                self._pass, self._batches = self.dataloader_iterator._epoch, 0
            self._batches += 1
            self.run_iter(batch)
            self._decide_current_val_interval()
            self._validate(self._is_validation_time())
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _go_on(self) -> None:
        """Put an iterator at the position in place of the one that mmengine made at the start."""
        if not self._resumed:  # from a checkpoint of mmengine's own, which states no position
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

    def _is_validation_time(self) -> bool:
        at = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        return self._iter >= self.val_begin and at
