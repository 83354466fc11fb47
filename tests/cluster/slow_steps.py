"""A hook for the test's config: a step that takes until the job is asked to stop."""

import os
import time

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from hordet.engine.hooks import CheckpointHook


@HOOKS.register_module()
class WaitForSignal(Hook):
    """In the first `starts` starts of a job, wait in the third step until a signal has come."""

    def __init__(self, starts):
        self.starts, self.steps = starts, 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps += 1
        if self.steps < 3 or int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= self.starts:
            return
        if runner.rank == 0 and self.steps == 3:
            with open(os.path.join(runner.work_dir, "waiting"), "a") as file:
                file.write("a step waits\n")
        (keeper,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        while keeper.interruption.signal is None:
            time.sleep(0.1)
