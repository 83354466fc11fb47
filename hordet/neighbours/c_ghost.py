r"""C-Ghost module: a convolution makes a part of the channels, cheap operations make the rest.

Paper: K. Han et al., "GhostNet: More Features from Cheap Operations" (CVPR 2020), section 3.1,
equations 1 to 3; named C-Ghost, for CPUs, in "GhostNets on Heterogeneous Devices via Cheap
Operations" (IJCV 2022). Of C channels, m = C / s are a convolution of the map, and
each of these gives s - 1 ghosts, d x d convolutions of it alone; the identity is kept beside them:

    Y' = f' * X  (m channels),    Y = [Y', Phi_1(Y'), ..., Phi_{s-1}(Y')]  (C channels)

Parameters fall from k^2 C^2 to k^2 C^2 / s + (s - 1) d^2 C / s, about s-fold.

**Relation to gnConv.** Both give the map's full mixing to a part of the channels: gnConv's first
gate works on C / 2^(n-1) channels, and a cheap depthwise convolution makes what it is multiplied
with. A ghost is linear in the map; there is no product.

**What differs from the paper.** Nothing in the equations: biases are left out there, too. The
authors' GhostNet puts batch norm and ReLU behind both parts and has k = 1; here the neck's norm and
activation follow the whole, and k = 3 as in the paper's Ghost-VGG and Ghost-ResNet, whose 3x3
convolutions the module replaces (s = 2, d = 3). For C that s does not divide, the last ghosts are
cut off, as in the authors' code.
"""

import math

import torch
from torch import Tensor, nn

from hordet.layers import DepthwiseConv2d


class CGhostFusion(nn.Module):
    """Convolution to C / s channels, and s - 1 depthwise convolutions of these.

    Args:
        channels: C of input and output.
        ratio: s, at least 2 and at most C.
        kernel_size: k, odd size of the convolution.
        cheap_size: d, odd size of the cheap operations.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: A kernel is even, or `ratio` is out of its range.
    """

    def __init__(
        self, channels: int, ratio: int = 2, kernel_size: int = 3, cheap_size: int = 3
    ) -> None:
        """Create f' and the cheap operations Phi."""
        super().__init__()
        if not 2 <= ratio <= channels or kernel_size % 2 == 0:
            raise ValueError(
                f"got ratio={ratio} and kernel_size={kernel_size} for {channels} channels; allowed "
                f"are a ratio of 2 to {channels} and an odd kernel."
            )
        self.channels = channels
        intrinsic = math.ceil(channels / ratio)
        self.primary_conv = nn.Conv2d(
            channels, intrinsic, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.cheap_operations = nn.ModuleList(
            DepthwiseConv2d(intrinsic, cheap_size, bias=False) for _ in range(ratio - 1)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start so that each convolution keeps the variance; the papers do not state a start."""
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and add the ghosts: (N, C, H, W) -> (N, C, H, W)."""
        y = self.primary_conv(x)
        ghosts = [cheap(y) for cheap in self.cheap_operations]
        return torch.cat([y, *ghosts], dim=1)[:, : self.channels]
