r"""Squeeze-and-excitation block: a convolution whose channels are weighed by their means.

Paper: J. Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018), section 3. With U = F_tr(X) a
convolution, z_c the mean of U_c over the map and r the reduction,

    s = sigmoid(W_2 relu(W_1 z)),    out_c = s_c U_c,    W_1 of (C / r, C), W_2 of (C, C / r),

which adds 2 C^2 / r parameters (the paper's equation 5: there are no biases).

**Relation to gnConv.** Both multiply the map by something made of the map. The factor here is one
number a channel, the same at each pixel and between 0 and 1; gnConv's gate f(q) has a value of its
own at each pixel from its 7x7 surroundings, without a sigmoid.

**What differs from the paper.** Nothing in the block. The paper's F_tr is what the block stands in
(there a whole residual branch); here it is the 3x3 convolution of FPN, or, with `kernel_size=None`,
nothing, which is the form of a plugin.
"""

import torch
from torch import Tensor, nn

from hordet.layers.front_conv import build_front_conv


class SEFusion(nn.Module):
    """Convolution, then each channel times a factor from the means of all channels.

    Args:
        channels: C of input and output.
        reduction: r; C / r is rounded down, to at least 1.
        kernel_size: Odd size of the convolution in front; None for none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: The kernel is even, or `reduction` is below 1.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int | None = 3) -> None:
        """Create F_tr, W_1 and W_2."""
        super().__init__()
        self.conv = build_front_conv(channels, reduction, kernel_size)
        narrow = max(channels // reduction, 1)
        self.fc1 = nn.Conv2d(channels, narrow, 1, bias=False)
        self.fc2 = nn.Conv2d(narrow, channels, 1, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as He et al. (fan-in) do, as the paper says; the gates then are near 1/2."""
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, squeeze, excite: (N, C, H, W) -> (N, C, H, W)."""
        u = self.conv(x)
        z = u.mean((2, 3), keepdim=True)
        return u * self.fc2(self.fc1(z).relu()).sigmoid()
