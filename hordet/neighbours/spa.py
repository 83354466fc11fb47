r"""SP&A block: cheap copies of channels, attention over them, and a separable shortcut.

Paper: Y. Yang and M. Sun, "Semiconductor Defect Pattern Classification by
Self-Proliferation-and-Attention Neural Network" ("SP&A-Net", IEEE Transactions on Semiconductor
Manufacturing 2022). With P ("self-proliferation") a 1x1 convolution to 1 / s of the channels and
s - 1 depthwise 3x3 convolutions of these, which is the Ghost module (`hordet.neighbours.c_ghost`)
of k = 1,

    y = relu(BN(P_1 x))  (e C channels),    context = sum_j softmax_j(W_k y_j) y_j,
    z = hsigmoid(W_2 relu(LN(W_1 context))) y,
    out = BN(P_2 z) + BN(W BN(D x)),    D depthwise k x k, W 1x1

**Relation to gnConv.** z is y times a function of y, of one value a channel as in SE
(`hordet.neighbours.se`), with GC's pooling in the place of the mean; gnConv's gates have a value a
pixel.

**What differs from the paper.** Its text could not be had; this is the authors' code at stride 1,
but for the attention: their softmax runs over the one channel of W_k y, where it is always 1, and
nothing is summed over the map, which is not the long-range attention over channels and space that
the authors describe. Here it runs over the pixels j and y is summed with it, as in the global
context block that it is built like. W_1 has e C / s rows, s = 2, hsigmoid(t) is 0.2 t + 0.5 cut to
0 .. 1 (Keras'), convolutions have no bias, as there. e = 2 was chosen here; the authors give
each block a width of its own.
"""

import math

import torch
from torch import Tensor, nn

from hordet.layers import DepthwiseConv2d


class SPAFusion(nn.Module):
    """Self-proliferation, attention, self-proliferation; beside a separable convolution.

    Args:
        channels: C of input and output.
        ratio: s, at least 2.
        expansion: e, at least 1.
        kernel_size: k of D, odd.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: The kernel is even, or a number is out of its range.
    """

    def __init__(
        self, channels: int, ratio: int = 2, expansion: int = 2, kernel_size: int = 3
    ) -> None:
        """Create both branches."""
        super().__init__()
        if not 2 <= ratio <= channels or expansion < 1:
            raise ValueError(
                f"got ratio={ratio} and expansion={expansion} for {channels} channels; allowed are "
                f"a ratio of 2 to {channels} and an expansion of at least 1."
            )
        wide = channels * expansion
        self.shortcut = nn.Sequential(
            DepthwiseConv2d(channels, kernel_size, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.expand = nn.Sequential(_SelfProliferation(channels, wide, ratio), nn.BatchNorm2d(wide))
        self.conv_mask = nn.Conv2d(wide, 1, 1, bias=False)
        self.excite = nn.Sequential(
            nn.Conv2d(wide, wide // ratio, 1, bias=False),
            nn.GroupNorm(1, wide // ratio),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide // ratio, wide, 1, bias=False),
        )
        self.reduce = nn.Sequential(
            _SelfProliferation(wide, channels, ratio), nn.BatchNorm2d(channels)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start by Xavier, which is Keras' own start and so the authors'."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Run both branches: (N, C, H, W) -> (N, C, H, W)."""
        y = self.expand(x).relu()
        mask = self.conv_mask(y).flatten(2).softmax(2)  # (N, 1, H W)
        context = (y.flatten(2) @ mask.to(y.dtype).transpose(1, 2)).unsqueeze(-1)
        z = y * (0.2 * self.excite(context) + 0.5).clamp(0, 1)
        return self.reduce(z) + self.shortcut(x)


class _SelfProliferation(nn.Module):
    """1x1 convolution to a part of the channels, and depthwise convolutions of it for the rest."""

    def __init__(self, in_channels: int, out_channels: int, ratio: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        part = math.ceil(out_channels / ratio)
        self.conv = nn.Conv2d(in_channels, part, 1, bias=False)
        self.cheap = nn.ModuleList(DepthwiseConv2d(part, 3, bias=False) for _ in range(ratio - 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([y, *(cheap(y) for cheap in self.cheap)], 1)[:, : self.out_channels]
