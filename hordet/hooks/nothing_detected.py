"""Score an evaluation in which nothing was detected."""

from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hordet.registry import HOOKS

_ITEMS = ("mAP", "mAP_50", "mAP_75")


@HOOKS.register_module()
class NothingDetectedHook(Hook):
    """Give an average precision of 0 to an evaluation without a single detection.

    mmdet's CocoMetric gives none, so that the log, the choice of the best checkpoint and the final
    line would miss this evaluation, or show the one before. Whether the last evaluation was such a
    one is `nothing_detected` in the message hub.
    """

    priority = "HIGHEST"  # before mmengine's RuntimeInfoHook copies the metrics for the log

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Complete the metrics of a validation, in place."""
        self._complete(runner, runner.val_loop.evaluator, metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Complete the metrics of a test, in place."""
        self._complete(runner, runner.test_loop.evaluator, metrics)

    @staticmethod
    def _complete(runner: Runner, evaluator: Any, metrics: dict[str, float] | None) -> None:
        """Add the missing average precisions, and say so."""
        added = {}
        for metric in evaluator.metrics if metrics is not None else ():
            if not isinstance(metric, CocoMetric) or metric.format_only:
                continue
            for name in {"bbox", "segm"} & set(metric.metrics):
                begin = f"{metric.prefix}/{name}_"
                if not any(key.startswith(begin) for key in metrics):
                    added |= {begin + item: 0.0 for item in metric.metric_items or _ITEMS}
        runner.message_hub.update_info("nothing_detected", bool(added))
        if added:
            metrics.update(added)
            runner.logger.warning(
                "Nothing was detected in any picture, so average precision is 0. Early in training "
                "that is common; later, look at the loss, and at score_thr of test_cfg."
            )
