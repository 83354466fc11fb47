"""Validate with one set of BatchNorm statistics, whichever process runs."""

from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hordet.registry import HOOKS


@HOOKS.register_module()
class SameBuffersHook(Hook):
    """Give every process the buffers of process 0 before a validation.

    BatchNorm without SyncBatchNorm keeps the statistics of its own process's images. The
    checkpoint has those of process 0, so validation has to use them too if `hordet test` is to
    repeat its metrics. mmengine's SyncBuffersHook takes the mean, but after epochs alone: a run
    that counts iterations would never see it.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Broadcast the buffers, if there are several processes."""
        if is_distributed():
            for buffer in runner.model.buffers():
                broadcast(buffer)
