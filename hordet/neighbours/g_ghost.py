r"""G-Ghost stage: a few blocks on a part of the channels, one cheap operation for the others.

Paper: K. Han et al., "GhostNets on Heterogeneous Devices via Cheap Operations" (IJCV 2022):
features of a stage's last block are like those of its first, so that a part of them needs no
depth. With B_1 and B_n the first and the last block of a stage, on all C channels, and the rest on
m = (1 - lambda) C of them:

    y_1 = B_1(x),    y_i = B_i(y_{i-1})  for i = 2 .. n-1, from the first m channels of y_1,
    ghosts = relu(C(y_1's other channels) + M(mean over the map of [y_1, y_2, .., y_{n-1}])),
    out = B_n([y_{n-1}, ghosts])

C is a 1x1 convolution, M ("mix") two fully connected layers that tell the cheap
channels of the deep ones. The blocks are RegNet's: 1x1, 3x3 of groups of a fixed width and 1x1, all
of one width, batch norm behind each, ReLU between and behind the sum with the shortcut.

**Relation to gnConv.** As in gnConv, narrow channels go through more steps than wide ones; what
joins them is a concatenation and a sum, not a product.

**What differs from the paper.** A stage's first block halves the map; here none does. The last ReLU
is left to the neck. In M a norm over the numbers of an image (layer norm) stands where the authors'
code has batch norms, for the reason of `hordet.neighbours.sda`; the parameters are the same. The
width of a group is cut to what divides the blocks' widths. n = 4 is the paper's third stage of the
smallest RegNet.
"""

import math

import torch
from torch import Tensor, nn


class GGhostFusion(nn.Module):
    """RegNet blocks on a part of the channels beside a cheap operation on the others.

    Args:
        channels: C of input and output, at least 2.
        depth: n, the number of blocks, at least 3.
        cheap_ratio: lambda, the share of channels that skip the depth.
        group_width: Channels of each group of the 3x3 convolutions.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `depth` is below 3, `group_width` below 1, or a part would have no channel.
    """

    def __init__(
        self, channels: int, depth: int = 4, cheap_ratio: float = 0.5, group_width: int = 8
    ) -> None:
        """Create the blocks, the cheap operation and the mix."""
        super().__init__()
        self.deep = int(round(channels * (1 - cheap_ratio), 6))  # 10 * (1 - 0.9) is 0.9999999999
        cheap = channels - self.deep
        if depth < 3 or group_width < 1 or self.deep < 1 or cheap < 1:
            raise ValueError(
                f"got depth={depth}, cheap_ratio={cheap_ratio} and group_width={group_width} for "
                f"{channels} channels; allowed are a depth of at least 3, a width of at least 1, "
                "and a ratio that leaves a channel to both parts."
            )
        self.base = _Bottleneck(channels, group_width)
        self.layers = nn.ModuleList(_Bottleneck(self.deep, group_width) for _ in range(depth - 2))
        self.end = _Bottleneck(channels, group_width, activate=False)
        self.merge = nn.Sequential(
            nn.Conv2d(channels + self.deep * (depth - 2), cheap, 1, bias=False),
            nn.GroupNorm(1, cheap),
            nn.ReLU(inplace=True),
            nn.Conv2d(cheap, cheap, 1, bias=False),
            nn.GroupNorm(1, cheap),
        )
        self.cheap = nn.Sequential(
            nn.Conv2d(cheap, cheap, 1, bias=False),
            nn.BatchNorm2d(cheap),
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the authors' code: He et al. (fan-out) for convolutions, norms at 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage: (N, C, H, W) -> (N, C, H, W)."""
        first = self.base(x)
        deep, cheap = first[:, : self.deep], first[:, self.deep :]
        means = [first.mean((2, 3), keepdim=True)]
        for block in self.layers:
            deep = block(deep)
            means.append(deep.mean((2, 3), keepdim=True))
        ghosts = (self.cheap(cheap) + self.merge(torch.cat(means, 1))).relu()
        return self.end(torch.cat([deep, ghosts], 1))


class _Bottleneck(nn.Module):
    """RegNet's block of one width: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, group_width: int, activate: bool = True) -> None:
        super().__init__()
        groups = channels // math.gcd(channels, group_width)
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        out = x + self.branch(x)
        return out.relu() if self.activate else out
