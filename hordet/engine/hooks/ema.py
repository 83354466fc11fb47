"""Averaged weights that a resumed run goes on with, all or none."""

from mmengine import hooks
from mmengine.runner import Runner

from hordet.registry import HOOKS


@HOOKS.register_module()
class EMAHook(hooks.EMAHook):
    """mmengine's EMAHook, strict when a run is resumed.

    mmengine's leaves averages that a checkpoint lacks at random weights, or is strict with the
    weights of a fine-tuning, too, whose head may be another one. The options are mmengine's:
    `ema_type`, `momentum`, `update_buffers`, `begin_iter` and the rest.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the averages of a resumed run, or begin with the weights to start from."""
        self.strict_load = bool(runner._resume)
        super().after_load_checkpoint(runner, checkpoint)
