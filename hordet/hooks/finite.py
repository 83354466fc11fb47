"""Stop a run whose loss is no longer a number, and keep the evidence."""

import math
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from hordet.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Raise on the first loss that is NaN or infinite.

    It runs after every training iteration and before a checkpoint is written, so that no file of
    the run holds the weights this loss spoilt. It costs nothing beside mmengine's log, which
    reads the loss every iteration anyway.
    """

    priority = "HIGH"

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Check the loss of this iteration.

        Raises:
            FloatingPointError: The loss is not finite. The message names the iteration, each loss,
                the pictures of the batch and the last checkpoint.
        """
        if not outputs or math.isfinite(_number(outputs.get("loss", 0.0))):
            return
        values = {name: _number(value) for name, value in outputs.items()}
        wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
        right = {name: value for name, value in values.items() if math.isfinite(value)}
        checkpoint = runner.message_hub.runtime_info.get("last_ckpt")
        raise FloatingPointError(
            f"got a loss that is not finite at iteration {runner.iter + 1}.\n"
            f"  not finite: {_listing(wrong)}\n"
            f"  finite: {_listing(right) or 'none'}\n"
            f"  pictures: {', '.join(_pictures(data_batch)) or 'unknown'}\n"
            f"  last checkpoint: {checkpoint or 'none yet'}\n"
            "Look at these pictures and their annotations first; then "
            "resume with a lower learning rate, with "
            "optim_wrapper.clip_grad=dict(max_norm=1.0) (gnConv multiplies its gates), or "
            "without --amp."
        )


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)


def _listing(values: dict[str, float]) -> str:
    return ", ".join(f"{name} = {value:.4g}" for name, value in values.items())


def _pictures(data_batch: Any) -> Iterator[str]:
    """Name the pictures of a batch of mmdet or mmseg."""
    samples = data_batch.get("data_samples") if isinstance(data_batch, dict) else None
    for sample in samples or ():
        metainfo = getattr(sample, "metainfo", {})
        yield str(metainfo.get("img_path", metainfo.get("img_id", "unknown")))
