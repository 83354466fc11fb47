"""Between the two layouts of a feature map, faster than torch's general copy.

Channels-last (N, H, W, C in memory) suits 1x1 and depthwise convolutions and norms over channels;
an FFT, and the weight gradient of a depthwise convolution, want each channel's plane in one piece.
Between the two lies a transpose of each image, for which torch has a kernel of its own that
`contiguous()` does not use: two to three times as fast on a large map.
"""

import torch
from torch import Tensor, nn

# Whether torch.export reads the code; torch 2.6 cannot tell it from torch.compile.
exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def to_channels_last(x: Tensor) -> Tensor:
    """Return a map as a CPU computes gnConvs fastest; other devices keep theirs.

    For the door of a model: its layers hand the layout on to one another.
    """
    if exporting() or x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last)


def use_channels_last(model: nn.Module) -> None:
    """Lay the weights of a model's convolutions channels-last, in place; values are the same.

    Such a convolution takes a map of any layout and gives one that is channels-last, so that the
    whole model computes in it, and no weight is turned at each step. Other weights stay: a learned
    filter of frequencies ends in pairs of real and imaginary parts.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)


def to_nchw(x: Tensor) -> Tensor:
    """Return (N, C, H, W) with each channel's plane contiguous; itself if it is so already."""
    if exporting() or x.is_contiguous() or x.stride(1) != 1 or not x.numel():
        return x.contiguous()
    batch, channels, height, width = x.shape
    images = x.permute(0, 2, 3, 1).contiguous().view(batch, height * width, channels)
    return _transpose(images).view(batch, channels, height, width)


def to_nhwc(x: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N, H, W, C) with each pixel's channels contiguous."""
    batch, channels, height, width = x.shape
    if exporting() or not x.is_contiguous() or not x.numel():
        return x.permute(0, 2, 3, 1).contiguous()
    return _transpose(x.view(batch, channels, -1)).view(batch, height, width, channels)


def _transpose(matrices: Tensor) -> Tensor:
    """Transpose each contiguous matrix of (N, rows, columns) in memory."""
    turned = [matrix.t().contiguous() for matrix in matrices]
    return turned[0][None] if len(turned) == 1 else torch.stack(turned)
