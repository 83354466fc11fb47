"""1x1 convolutions and linear layers: into parts, and with a layer scale on the output.

What they read is not kept for their gradient where it can be computed again; see `recompute`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.recompute import cast_as_autocast, recompute


class PointwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(in_channels, out_channels, 1)`, with a layer scale on the output if asked.

    Args:
        in_channels: Channels of the input.
        out_channels: C, the channels of the output.

    Shape:
        (N, in_channels, H, W), scale (C,) -> (N, C, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Create the parameters as `nn.Conv2d` does."""
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Project, times `scale` a channel: (N, in_channels, H, W) -> (N, C, H, W)."""
        x = cast_as_autocast(x)
        with recompute(x):
            if scale is None:
                return super().forward(x)
            if can_fold_scale(x):
                return F.conv2d(x, *fold_scale(self, scale))
            return super().forward(x) * scale.view(-1, 1, 1)


class PointwiseLinear(nn.Linear):
    """`nn.Linear`, with a layer scale on the output if asked.

    Shape:
        (..., in_features), scale (out_features,) -> (..., out_features).
    """

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Project, times `scale` a channel: (..., in_features) -> (..., out_features)."""
        x = cast_as_autocast(x)
        with recompute(x):
            if scale is None:
                return super().forward(x)
            if can_fold_scale(x):
                return F.linear(x, *fold_scale(self, scale))
            return super().forward(x) * scale


class SplitPointwiseConv2d(nn.Conv2d):
    """1x1 convolution whose output comes in parts, each dense in memory.

    The parameters and numbers of `nn.Conv2d(in_channels, sum(widths), 1)` and a split of its
    output. The parts of a split would be views with gaps between the pixels, which the next
    convolution copies, and whose gradients are copied into one.

    Args:
        in_channels: Channels of the input.
        widths: Channels of each part.

    Shape:
        (N, in_channels, H, W) -> one (N, width, H, W) for each of `widths`.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        """Create the parameters as `nn.Conv2d` does."""
        super().__init__(in_channels, sum(widths), 1)
        self.widths = tuple(widths)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Project: (N, in_channels, H, W) -> parts of (N, width, H, W)."""
        assert self.bias is not None
        parts = []
        for weight, bias in zip(
            self.weight.split(self.widths), self.bias.split(self.widths), strict=True
        ):
            cast = cast_as_autocast(x)  # one a part: their gradients meet in the dtype of `x`
            with recompute(cast):
                parts.append(F.conv2d(cast, weight, bias))
        return tuple(parts)


def can_fold_scale(x: Tensor) -> bool:
    """Whether a layer of `x` takes its layer scale into its weights.

    In training it does: the product is the same, and the output of the layer need not be kept for
    the gradient of the scale. Not in float16, whose smallest number a weight times a fresh scale
    of 1e-6 would reach.
    """
    return torch.is_grad_enabled() and x.dtype != torch.float16


def fold_scale(layer: nn.Conv2d | nn.Linear, scale: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of the layer that multiplies its output by `scale`, (C,)."""
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    return weight, None if layer.bias is None else layer.bias * scale
