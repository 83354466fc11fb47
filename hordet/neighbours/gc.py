r"""Global context block: a convolution to which a learned mean of the whole map is added.

Paper: Y. Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond"
(ICCV Workshops 2019), section 3.3 and figure 4(d). With u_j the C channels of pixel j,

    context = sum_j softmax_j(W_k u_j) u_j,    out_i = u_i + W_v2 relu(LN(W_v1 context)),

W_k of (1, C), W_v1 of (C / r, C), W_v2 of (C, C / r), LN a layer norm over the C / r numbers. It is
the non-local block (`hordet.neighbours.non_local`) with one attention map for all pixels.

**Relation to gnConv.** The softmax times u is a product of two functions of the map, summed over
the map: of order two and global, but added to every pixel alike, where gnConv's product stays at
its pixel. The global filter of HorNet-GF reaches as far, with a kernel that does not depend on the
map.

**What differs from the paper.** Nothing in the block where C / r is at least 4; biases and
names are those of the authors' code (and of `mmcv.cnn.bricks.ContextBlock` with attention pooling
and addition). The convolution in front is FPN's 3x3 one, or none with `kernel_size=None`, the form
of a plugin.
"""

import torch
from torch import Tensor, nn

from hordet.layers.front_conv import build_front_conv


class GCFusion(nn.Module):
    """Convolution, plus a vector made of the attention-weighted mean of the map.

    Args:
        channels: C of input and output.
        reduction: r; C / r is rounded down, to at least 4: a layer norm of one or two numbers has
            no more than their signs.
        kernel_size: Odd size of the convolution in front; None for none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: The kernel is even, or `reduction` is below 1.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int | None = 3) -> None:
        """Create the convolution, W_k, and the transform."""
        super().__init__()
        self.conv = build_front_conv(channels, reduction, kernel_size)
        narrow = max(channels // reduction, 4)
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            nn.LayerNorm([narrow, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, channels, 1),
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the plain convolution: W_v2 is zero, as in the authors' code."""
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        last = self.channel_add_conv[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and add the context: (N, C, H, W) -> (N, C, H, W)."""
        u = self.conv(x)
        mask = self.conv_mask(u).flatten(2).softmax(2)  # (N, 1, H W)
        context = u.flatten(2) @ mask.to(u.dtype).transpose(1, 2)  # (N, C, 1)
        return u + self.channel_add_conv(context.unsqueeze(-1))
