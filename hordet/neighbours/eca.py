r"""Efficient channel attention: a convolution whose channels are weighed by means of a few others.

Paper: Q. Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural
Networks" (CVPR 2020), section 3. With U the output of a convolution and z its C means,

    s = sigmoid(conv1d_k(z)),    out_c = s_c U_c,    k = |log2(C) / gamma + b / gamma|_odd,

where conv1d has one kernel of k weights, slid along the channels, and |t|_odd is, as in the
authors' code, t cut to a whole number, plus 1 if that is even (gamma = 2, b = 1). It adds k
parameters: 3 for C = 64, 5 for C = 256.

**Relation to gnConv.** As SE's (`hordet.neighbours.se`): a factor a channel, not one a pixel; that
channels beside each other share it depends on their order, which gnConv's 1x1 convolutions do not.

**What differs from the paper.** Nothing in the block. The convolution in front is FPN's 3x3 one, or
none with `kernel_size=None`, the form of a plugin.
"""

import math

import torch
from torch import Tensor, nn


class ECAFusion(nn.Module):
    """Convolution, then each channel times a factor from the means of the channels beside it.

    Args:
        channels: C of input and output.
        gamma: Of the equation of k.
        b: Of the equation of k.
        kernel_size: Odd size of the convolution in front; None for none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: The kernel is even.
    """

    def __init__(
        self, channels: int, gamma: float = 2.0, b: float = 1.0, kernel_size: int | None = 3
    ) -> None:
        """Create the convolution of the map and the kernel along the channels."""
        super().__init__()
        if kernel_size is not None and kernel_size % 2 == 0:
            raise ValueError(f"got kernel_size={kernel_size}; allowed are odd sizes and None.")
        self.conv: nn.Module = nn.Identity()
        if kernel_size is not None:
            self.conv = nn.Conv2d(
                channels, channels, kernel_size, padding=kernel_size // 2, bias=False
            )
        k = int(abs(math.log2(channels) / gamma + b / gamma))
        k += 1 - k % 2
        self.conv1d = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as He et al. (fan-in) do; conv1d has torch's own start, as in the authors' code."""
        if isinstance(self.conv, nn.Conv2d):
            nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, then weigh the channels: (N, C, H, W) -> (N, C, H, W)."""
        u = self.conv(x)
        z = u.mean((2, 3)).unsqueeze(1)  # (N, 1, C)
        return u * self.conv1d(z).sigmoid().transpose(1, 2).unsqueeze(-1)
