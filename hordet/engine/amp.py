"""Mixed precision without loss scaling, on any device; layers kept in float32."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import MethodType
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from hordet.layers.recompute import cast
from hordet.registry import OPTIM_WRAPPERS

# The last layers of mmdet's and mmseg's heads, and the last projection of a neck's gnConv fusion.
# bfloat16 has a precision of 8 bits: many scores would be equal, and AP depends on their order.
PREDICTIONS = (
    *(f"*_{name}" for name in ("cls", "reg", "obj", "iou", "centerness", "logits", "branches")),
    *(f"*{name}" for name in ("conv_seg", "cls_seg", "cls_embed", "mask_embed")),
    "*neck.*.proj_out",
    # mmcv's deformable attention samples at locations of the dtype of its values, and bfloat16
    # misses by half a pixel on a map of width 128. The sampling itself is in float32 anyway.
    "*value_proj",
    "*sampling_offsets",
)


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """An OptimWrapper whose forward pass runs in bfloat16 autocast.

    bfloat16 has float32's range, so the loss needs no scaling and no step is left out. mmengine's
    AmpOptimWrapper always scales, and refuses a CPU. In a config:
    `optim_wrapper=dict(type='hordet.Bfloat16OptimWrapper', ...)`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of `model` under autocast to bfloat16."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


def set_tf32(enabled: bool) -> None:
    """Let a GPU round float32 products and convolutions to TF32 from now on, or let it not.

    Args:
        enabled: As of `use_tf32`.
    """
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


@contextmanager
def use_tf32(enabled: bool) -> Iterator[None]:
    """Inside, let a GPU round float32 products and convolutions to TF32, or let it not.

    TF32 has float32's range and 10 bits of precision (NVIDIA, from Ampere on). By default torch
    takes it for convolutions and not for matrix products. A CPU is not changed.

    Args:
        enabled: For both.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    set_tf32(enabled)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


class Float32Hook(Hook):
    """Calls `keep_float32` on the model before a run.

    Args:
        names: As in `keep_float32`.
    """

    def __init__(self, names: Sequence[str] = PREDICTIONS) -> None:
        """Keep the patterns."""
        self.names = names

    def before_run(self, runner: Runner) -> None:
        """Keep the layers in float32."""
        keep_float32(runner.model, self.names)


def keep_float32(model: nn.Module, names: Sequence[str] = PREDICTIONS) -> list[str]:
    """Let some layers of a model compute in float32 under autocast, in place.

    Without autocast nothing changes; the state dict does not change.

    Args:
        model: Any module.
        names: Patterns of module names, such as `*fc_cls`. They select every convolution and linear
            layer that has such a name or is inside a module that has one.

    Returns:
        The names of the selected layers.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and _matches(name, names):
            # Bound as a method, so that a copy of the model (such as the EMA model) has its own.
            module.forward = MethodType(_in_float32, module)  # type: ignore[method-assign]
            found.append(name)
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a module, or a module around it, has a name that fits one of the patterns."""
    parts = name.split(".")
    holders = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatchcase(holder, pattern) for holder in holders for pattern in patterns)


def _in_float32(self: Any, x: Tensor, *further: Any) -> Tensor:
    """Compute the output of a layer; under autocast, in float32."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return type(self).forward(self, x, *further)
    with torch.autocast(device, enabled=False):
        return type(self).forward(self, cast(x, torch.float32), *further)
