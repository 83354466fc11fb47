r"""Selective depth attention: the outputs of a few blocks in a row, mixed by a softmax over depth.

Paper: Q. Guo et al., "Selective Depth Attention Networks for Adaptive Multiscale Feature
Representation" ("SDA-xNet", IEEE Transactions on Artificial Intelligence 2024, arXiv 2209.10327),
section III: within a stage, blocks of one resolution see more and more of the image, and a stage
chooses among them. With Z_1 .. Z_m the outputs of m residual blocks in a row (before their ReLU),

    v = relu(norm(W mean(Z_1 + .. + Z_m))),    a_i = softmax over i of (W_i v + b_i),
    out = sum_i a_i Z_i,

W of (d, C), W_i of (C, d), d = max(C / r, L); each channel has its own shares a_i. The blocks are
ResNet bottlenecks, 1x1 to C / 4 channels, 3x3 of 8 groups, 1x1 to C, batch norm behind each and
ReLU between, as in SDA-ResNet.

**Relation to gnConv.** gnConv's gates k = 1 .. n have a receptive field that grows with k as well,
but each multiplies the one before; here they are alternatives that are added, weighed by the mean
of the map.

**What differs from the paper.** The norm in front of v is over the d numbers of an image (layer
norm) where the authors' code has a batch norm: a neck trains with few images at a time, and a batch
norm over two vectors leaves their signs, over one nothing. It has the same parameters. m = 3 is the
depth of the smallest stage of ResNet-50 (the paper's own stages have 5 to 12). Where 8 groups do
not divide C / 4, their largest common divisor is taken. The stage's last ReLU is left to the neck.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class SDAFusion(nn.Module):
    """Bottleneck blocks in a row; each channel is mixed from their outputs.

    Args:
        channels: C of input and output; a multiple of 4.
        depth: m, the number of blocks.
        reduction: r of d = max(C / r, L).
        min_width: L of d.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `channels` is no multiple of 4, or another number is below 1.
    """

    def __init__(
        self, channels: int, depth: int = 3, reduction: int = 16, min_width: int = 64
    ) -> None:
        """Create the blocks and the attention."""
        super().__init__()
        if channels % 4:
            raise ValueError(f"got {channels} channels; bottlenecks of C / 4 need a multiple of 4.")
        if min(depth, reduction, min_width) < 1:
            raise ValueError(
                f"got depth={depth}, reduction={reduction} and min_width={min_width}; each is at "
                "least 1."
            )
        self.blocks = nn.ModuleList(_make_bottleneck(channels) for _ in range(depth))
        narrow = max(channels // reduction, min_width)
        self.fc = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False),
            nn.GroupNorm(1, narrow),
            nn.ReLU(inplace=True),
        )
        self.fcs = nn.ModuleList(nn.Conv2d(narrow, channels, 1) for _ in range(depth))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the authors' code: He et al. (fan-out) for convolutions, norms at 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks and mix them: (N, C, H, W) -> (N, C, H, W)."""
        outs = []
        for block in self.blocks:
            outs.append(x + block(x))
            x = outs[-1].relu()
        return mix_depths(outs, self.fc, self.fcs)


def mix_depths(outs: Sequence[Tensor], fc: nn.Module, fcs: Iterable[nn.Module]) -> Tensor:
    """Mix the outputs of blocks in a row by the paper's softmax over depth.

    Args:
        outs: Z_1 .. Z_m, each (N, C, H, W).
        fc: Makes v, (N, d, 1, 1), of the mean of their sum, (N, C, 1, 1).
        fcs: W_i with b_i, each (N, d, 1, 1) -> (N, C, 1, 1).

    Returns:
        (N, C, H, W).
    """
    total = outs[0]
    for out in outs[1:]:
        total = total + out
    v = fc(total.mean((2, 3), keepdim=True))
    shares = torch.stack([layer(v) for layer in fcs]).softmax(0)  # (m, N, C, 1, 1)
    mixed = shares[0] * outs[0]
    for share, out in zip(shares[1:], outs[1:], strict=True):
        mixed = mixed + share * out
    return mixed


def _make_bottleneck(channels: int) -> nn.Sequential:
    """Return ResNet's bottleneck without its shortcut: (N, C, H, W) -> (N, C, H, W)."""
    width = channels // 4
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, groups=math.gcd(8, width), bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
