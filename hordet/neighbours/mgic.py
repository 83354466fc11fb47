r"""MGIC block: grouped convolutions on ever fewer channels, coupled like the grids of multigrid.

Paper: M. Eliasof et al., "MGIC: Multigrid-in-Channels Neural Network Architectures" (SIAM Journal
on Scientific Computing 2023, arXiv 2011.09128). Level j has C / 2^j channels in groups of s_g, down
to at most s_c channels:

    x_{j+1} = R_j x_j,                              j = 0 .. L-1    (restriction)
    z_L = block_L(x_L)                                              (all channels coupled)
    z_j = block_j(x_j + norm(P_j (z_{j+1} - x_{j+1}))), j = L-1 .. 0 (prolongation and relaxation)

R_j and P_j are grouped 1x1 convolutions, block_j is ResNet's basic block with two 3x3 convolutions
in groups of s_g channels, batch norm behind each. Weights grow with C, not C^2, and still every
channel reaches every other, through the coarsest level.

**Relation to gnConv.** gnConv has the widths of this hierarchy, C / 2^(n-1) .. C, from narrow to
wide; it joins them by products, MGIC by sums with what the coarse level changed.

**What differs from the paper.** Nothing in the algorithm. The last ReLU of the finest block is left
to the neck. s_g = s_c = 16 are the numbers of the authors' code, which halves once more, to 8
channels; here s_c is the most that the coarsest level has. Where s_g does not divide a level's
channels, its largest divisor that does is taken. R and P start at random, as the authors' do, but
with a variance that keeps that of a map.
"""

import math

import torch
from torch import Tensor, nn


class MGICFusion(nn.Module):
    """A V-cycle over halved numbers of channels with grouped convolutions.

    Args:
        channels: C of input and output; each halving down to `coarsest` must be whole.
        group_size: s_g, the channels of a group, at least 2.
        coarsest: s_c, the most channels of the coarsest level.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: A level would have an odd number of channels, or a number is out of its range.
    """

    def __init__(self, channels: int, group_size: int = 16, coarsest: int = 16) -> None:
        """Create the restrictions, prolongations and blocks, from fine to coarse."""
        super().__init__()
        if group_size < 2 or coarsest < 1:
            raise ValueError(
                f"got group_size={group_size} and coarsest={coarsest}; allowed are at least "
                "2 and 1."
            )
        self.restrictions = nn.ModuleList()
        self.prolongations = nn.ModuleList()
        self.blocks = nn.ModuleList()
        width = channels
        while width > coarsest:
            # Groups of an even size, so that each is halved.
            size = math.gcd(width, group_size)
            if size % 2:
                raise ValueError(
                    f"{channels} channels cannot be halved to {coarsest}: groups of a level of "
                    f"{width} channels have {size}, which is odd. Take a power of 2 for channels "
                    "and group_size, or a greater coarsest."
                )
            groups = width // size
            self.restrictions.append(nn.Conv2d(width, width // 2, 1, groups=groups, bias=False))
            self.prolongations.append(
                nn.Sequential(
                    nn.Conv2d(width // 2, width, 1, groups=groups, bias=False),
                    nn.BatchNorm2d(width),
                )
            )
            self.blocks.append(_make_block(width, groups))
            width //= 2
        self.blocks.append(_make_block(width, 1))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start R and P with the variance of a map kept, blocks by He et al. (fan-out)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):  # R or P
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Run the V-cycle: (N, C, H, W) -> (N, C, H, W)."""
        levels = [x]
        for restriction in self.restrictions:
            levels.append(restriction(levels[-1]))
        z = levels[-1] + self.blocks[-1](levels[-1])
        for j in reversed(range(len(self.restrictions))):
            change = z.relu() - levels[j + 1]
            fine = levels[j] + self.prolongations[j](change)
            z = fine + self.blocks[j](fine)
        return z


def _make_block(channels: int, groups: int) -> nn.Sequential:
    """Return ResNet's basic block without its shortcut: (N, C, H, W) -> (N, C, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    )
