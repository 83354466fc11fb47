"""Mixed precision: on a CPU, which mmengine's AmpOptimWrapper refuses; layers left in float32."""

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

# The last layers of the heads of mmdet and mmseg, and the projection that ends a gnConv fusion of a
# neck. Scores of eight bits tie by the hundred, and AP is a matter of their order.
PREDICTIONS = (
    *(f"*_{what}" for what in ("cls", "reg", "obj", "iou", "centerness", "logits", "branches")),
    *(f"*{what}" for what in ("conv_seg", "cls_seg", "cls_embed", "mask_embed")),
    "*neck.*.proj_out",
)


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """An OptimWrapper whose forward pass runs in bfloat16 autocast.

    bfloat16 has float32's range, so the loss needs no scaling. In a config:
    `optim_wrapper=dict(type='hordet.CpuAmpOptimWrapper', ...)`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of `model` in bfloat16 where torch thinks it safe."""
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield


class Float32Hook(Hook):
    """Calls `keep_float32` on the model of a run, when it is built and before it computes.

    Args:
        names: As of `keep_float32`.
    """

    def __init__(self, names: Sequence[str] = PREDICTIONS) -> None:
        """See the class."""
        self.names = names

    def before_run(self, runner: Runner) -> None:
        """Set the layers."""
        keep_float32(runner.model, self.names)


def keep_float32(model: nn.Module, names: Sequence[str] = PREDICTIONS) -> list[str]:
    """Let some layers of a model compute in float32 under autocast, in place.

    Without autocast nothing changes; the state dict stays as it is.

    Args:
        model: Any module.
        names: Patterns of module names, such as `*fc_cls`. Every convolution and linear layer that
            is such a module, or inside one, is meant.

    Returns:
        The names of these layers.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and _matches(name, names):
            # A method, which a copy of the model (such as an average's) binds to the copy.
            module.forward = MethodType(_in_float32, module)  # type: ignore[method-assign]
            found.append(name)
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a module or one that holds it has a name of the patterns."""
    parts = name.split(".")
    holders = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatchcase(holder, pattern) for holder in holders for pattern in patterns)


def _in_float32(self: Any, x: Tensor, *further: Any) -> Tensor:
    """Compute a layer's output; in float32 where autocast would take less."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return type(self).forward(self, x, *further)
    with torch.autocast(device, enabled=False):
        return type(self).forward(self, cast(x, torch.float32), *further)
