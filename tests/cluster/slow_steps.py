"""Hooks for the configs of the tests: a step that takes until something has happened."""

import os
import time

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from hordet.engine.hooks import CheckpointHook


class SlowStep(Hook):
    """The last process waits after its third step; the others wait for it in their exchanges."""

    steps = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps += 1
        if self.steps == 3 and runner.rank == runner.world_size - 1:
            while not self.is_over(runner):
                time.sleep(0.1)


@HOOKS.register_module()
class WaitForSignal(SlowStep):
    """In the first `starts` starts of a job, wait until a signal comes.

    Each wait adds the number of the process to the file `waiting`.
    """

    def __init__(self, starts):
        self.starts, self.waits = starts, False

    def is_over(self, runner):
        if int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= self.starts:
            return True
        if not self.waits:
            self.waits = True
            with open(os.path.join(runner.work_dir, "waiting"), "a") as file:
                file.write(f"{os.getpid()}\n")
        (keeper,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        return keeper.interruption.signal is not None


@HOOKS.register_module()
class WaitForFile(SlowStep):
    """Wait until a file is there."""

    def __init__(self, path):
        self.path = path

    def is_over(self, runner):
        return os.path.exists(self.path)
