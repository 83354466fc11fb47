"""1x1 convolutions as a gnConv uses them: into parts, and with a layer scale on the output."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        weights, biases = self.weight.split(self.widths), self.bias.split(self.widths)
        return tuple(F.conv2d(x, w, b) for w, b in zip(weights, biases, strict=True))


def scale_output(layer: nn.Module, x: Tensor, scale: Tensor | None) -> Tensor:
    """Apply a layer and multiply each channel of its output by a learned scale.

    In training the scale goes into the weights: the same product, and the output of the layer
    need not be kept for the gradient of the scale. Not in float16, whose smallest number a weight
    times a fresh scale of 1e-6 would reach.

    Args:
        layer: A 1x1 `nn.Conv2d`, channels second, or an `nn.Linear`, channels last.
        x: Its input.
        scale: (C,) of the output, or None for none.
    """
    if scale is None:
        return layer(x)
    convolution = isinstance(layer, nn.Conv2d)
    shaped = scale.view(-1, 1, 1) if convolution else scale
    foldable = isinstance(layer, (nn.Conv2d, nn.Linear)) and not _in_float16(x)
    if not foldable or not torch.is_grad_enabled():
        return layer(x) * shaped
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    bias = None if layer.bias is None else layer.bias * scale
    return F.conv2d(x, weight, bias) if convolution else F.linear(x, weight, bias)


def _in_float16(x: Tensor) -> bool:
    """Whether a layer of `x` computes in float16, by its dtype or by autocast."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) == torch.float16
    return x.dtype == torch.float16
