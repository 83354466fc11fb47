"""TensorFlow's "same" padding in whole numbers, for graphs."""

import torch.nn.functional as F
from torch import Tensor, nn


class SamePaddedConv(nn.Module):
    """timm's Conv2dSame, with margins that torch.export can simplify.

    A side of x pixels, stride s and a kernel that spans k pixels have a margin of max(r + k - s, 0)
    pixels in all, where r = -x mod s; timm rounds a quotient instead. If x is a multiple of s, the
    margin is a number, and otherwise a formula that stands in those of all layers behind.

    Args:
        conv: timm's layer, whose weights are used.

    Shape:
        (N, C, H, W) -> (N, C', ceil(H / s), ceil(W / s)).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Keep the layer."""
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        conv, margins = self.conv, []
        for i in (1, 0):  # F.pad wants the last dimension first
            stride, span = conv.stride[i], (conv.kernel_size[i] - 1) * conv.dilation[i] + 1
            total = -x.shape[2 + i] % stride + span - stride
            total = max(total, 0) if stride > span else total
            margins += [total // 2, total - total // 2]
        padded = F.pad(x, margins)
        return F.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
