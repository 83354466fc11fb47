"""A training that fits its length to the minutes that it may take on this machine."""

import copy
import math
import warnings
from time import monotonic
from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from hordet.errors import ConfigError, ConfigWarning
from hordet.registry import HOOKS

TIMED = 20  # iterations
# The first quarter of these is not timed: memory is allocated, kernels are chosen.
_WARM_UP = 4
# A validation's forward pass over an image, in steps of training over one: a step does the forward
# pass, and a backward pass of about twice its cost.
_FORWARD = 1 / 3
_PLAN = "time_plan"  # in the run's message hub, which checkpoints hold
# Lengths of mmengine's schedulers.
_LENGTHS = ("begin", "end", "T_max", "total_iters", "step_size")


@HOOKS.register_module()
class TimeBudgetHook(Hook):
    """Time the first iterations, then set the length of the training to what fits.

    After `timed` iterations the number of epochs (or iterations) becomes what fits into the minutes
    that are left, more or fewer than in the config; the ends and milestones of the learning rate's
    schedule move in proportion, and the rate becomes that of the new schedule at this iteration. As
    many validations as before are made, and their time is estimated from that of a step. At least
    one epoch is trained. The plan is in the checkpoints: a resumed run keeps it.

    It is a plan and no limit: a machine that becomes slower needs longer.

    Args:
        minutes: From the start of the training loop to the end of the last validation.
        timed: Iterations to time; fewer in a training of fewer than twice as many.
        mosaic_share: Share of the training after which the mosaic ends, if there is one.
    """

    priority = 80  # after ParamSchedulerHook, before CheckpointHook

    def __init__(self, minutes: float, timed: int = TIMED, mosaic_share: float | None = None):
        """See the class."""
        self.minutes, self.timed, self.mosaic_share = minutes, timed, mosaic_share
        self._began = self._warm = self._checking = 0.0  # moments
        self._first = 0  # iteration at which this process began
        self._timed = timed
        self._planned = False

    def before_train(self, runner: Runner) -> None:
        """Take the plan of a resumed checkpoint, or look at the clock.

        Raises:
            ConfigError: The training loop is not of hordet.
        """
        loop = runner.train_loop
        if not hasattr(loop, "change_length"):
            raise ConfigError(
                f"max_minutes changes the length of hordet's training loops, and train_cfg has "
                f"{type(loop).__name__}: set train_cfg.type to 'hordet.{type(loop).__name__}'"
            )
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise ConfigError("max_minutes is for one optimizer, and this config has several")
        plan = runner.message_hub.runtime_info.get(_PLAN) if runner._resume else None
        if plan:
            self._follow(runner, plan)
        self._planned = bool(plan)
        self._first, self._began = runner.iter, monotonic()
        total = runner.max_iters - runner.iter
        self._timed = max(1, min(self.timed, total // 2))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Plan once enough is timed."""
        done = runner.iter + 1 - self._first
        if self._planned:
            return
        warm = max(1, self._timed // _WARM_UP)
        if done == warm:
            self._warm = monotonic()
        if done < self._timed:
            return
        self._planned = True
        now = monotonic()
        begun, timed = (self._warm, done - warm) if done > warm else (self._began, done)
        seconds = max((now - begun) / timed, 1e-6)
        before = _find_length(runner)
        plans = [self._plan(runner, seconds, now - self._began)]
        broadcast_object_list(plans)  # of the main process
        plan = plans[0]
        self._follow(runner, plan)
        runner.message_hub.update_info(_PLAN, plan)
        _stretch_schedule(runner, plan["length"] / before)
        unit = "epochs" if isinstance(runner.train_loop, EpochBasedTrainLoop) else "iterations"
        runner.logger.info(
            f"{seconds:.3f} s an iteration: {plan['length']} {unit} for {self.minutes:g} minutes"
        )
        if plan["seconds"] > 60 * self.minutes + 1:
            warnings.warn(
                f"max_minutes={self.minutes:g} is too short: up to the end of what is begun and "
                f"the validations, the training takes about {plan['seconds'] / 60:.1f} minutes. "
                "Fewer or smaller images, or a schedule by iterations, would fit",
                ConfigWarning,
                stacklevel=2,
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Look at the clock."""
        self._checking = monotonic()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Leave a validation among the first iterations out of their time."""
        self._warm += monotonic() - self._checking

    def _plan(self, runner: Runner, seconds: float, used: float) -> dict:
        """Return the plan: length and interval of validation in the unit of the loop."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        unit = len(loop.dataloader) if by_epoch else 1  # iterations
        before = _find_length(runner)
        validations = math.ceil(before / loop.val_interval) if runner.val_loop else 0
        checked = validations * _count_validation_steps(runner) * _FORWARD * seconds
        left = 60 * self.minutes - used - checked
        done = runner.iter + 1
        length = (done + max(0.0, left) / seconds) / unit
        # Not less than what is begun.
        length = max(math.ceil(done / unit), int(length + 1e-6))
        needed = used + checked + (length * unit - done) * seconds
        interval = min(length, math.ceil(length / validations)) if validations else length
        plan = dict(length=length, val_interval=interval, seconds=needed, mosaic_until=None)
        if self.mosaic_share is not None:
            loader = loop.dataloader
            ahead = loader.num_workers * (getattr(loader, "prefetch_factor", None) or 2)
            # Workers have read on: what they have mixed already is still of the first part.
            least = math.ceil(done / unit) if by_epoch else done + ahead + 1
            plan["mosaic_until"] = max(least, int(self.mosaic_share * length))
        return plan

    def _follow(self, runner: Runner, plan: dict) -> None:
        """Set the length, the interval of validation and the end of the mosaic."""
        loop = runner.train_loop
        loop.change_length(int(plan["length"]), int(plan["val_interval"]))
        if plan["mosaic_until"] is not None:
            loop.dataloader.dataset.end_mosaic_at(int(plan["mosaic_until"]))


def _find_length(runner: Runner) -> int:
    """Return the length of a training in the unit of its loop."""
    loop = runner.train_loop
    return loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters


def _count_validation_steps(runner: Runner) -> float:
    """Return the validation images of this process in training batches."""
    loader = runner.val_loop.dataloader
    batch = runner.train_dataloader.batch_sampler.batch_size
    return len(loader.sampler) / batch


def _stretch_schedule(runner: Runner, factor: float) -> None:
    """Put the config's schedule, its lengths times a factor, in the place of the present one."""
    if not runner.param_schedulers:
        return
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    for group in runner.optim_wrapper.param_groups:
        for key in [key for key in group if key.startswith("initial_")]:
            group[key.removeprefix("initial_")] = group[key]
    settings = [stretch(each, factor) for each in _list_settings(runner)]
    built = runner.build_param_scheduler(settings)
    runner.param_schedulers = built
    length = len(loop.dataloader)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer has stepped
        for done in range(1, runner.iter + 2):
            for scheduler in built:
                # The end of this epoch is still to come, and steps them by itself.
                epoch_ends = by_epoch and done % length == 0 and done <= runner.iter
                if not scheduler.by_epoch or epoch_ends:
                    scheduler.step()


def _list_settings(runner: Runner) -> list[dict]:
    """Return the schedulers' configs, in a form in which mmengine builds them again."""
    settings = runner.cfg.get("param_scheduler") or []
    settings = [settings] if isinstance(settings, dict) else settings
    return [copy.deepcopy(dict(each)) for each in settings]


def stretch(scheduler: dict, factor: float) -> dict:
    """Return a scheduler's config with all its lengths times a factor, each at least 1.

    Args:
        scheduler: The config; what it leaves out follows from the training's length.
        factor: New length of the training over the old one.
    """
    stretched = dict(scheduler)
    for key in _LENGTHS:
        value = stretched.get(key)
        if isinstance(value, int | float) and math.isfinite(value) and value > 0:
            stretched[key] = max(1, round(value * factor))
    if stretched.get("milestones"):
        stretched["milestones"] = [max(1, round(each * factor)) for each in scheduler["milestones"]]
    return stretched
