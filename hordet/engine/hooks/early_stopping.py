"""Early stopping whose count a resumed run goes on with."""

from mmengine import hooks
from mmengine.runner import Runner

from hordet.registry import HOOKS

_STATE = "early_stopping"  # in the run's message hub, which checkpoints hold


@HOOKS.register_module()
class EarlyStoppingHook(hooks.EarlyStoppingHook):
    """mmengine's EarlyStoppingHook, which keeps its best score and its count in the checkpoint.

    mmengine's begins to count anew in each process. The options are mmengine's: `monitor`,
    `patience`, `min_delta`, `rule` and the rest.
    """

    priority = "LOW"  # before CheckpointHook, whose best checkpoint must hold this validation

    def before_train(self, runner: Runner) -> None:
        """Go on from the state of a resumed checkpoint."""
        state = runner.message_hub.runtime_info.get(_STATE)
        if state and runner._resume:
            self.best_score, self.wait_count = float(state["best"]), int(state["waited"])

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Count, stop the training where that is due, and note the count."""
        super().after_val_epoch(runner, metrics)
        state = dict(best=float(self.best_score), waited=self.wait_count)
        runner.message_hub.update_info(_STATE, state)
