"""RepBNN: binary features that are repeated (Shi et al., arXiv 2207.09049, 2022).

"Rep" is for repeating, not for the re-parameterization of RepVGG. A binary convolution has as many
outputs as it has filters, each a small integer. RepConv trades depth of features for filters: the
input is repeated beta times along the channels and the output, of C / beta channels, beta times
again,

    y = repeat_beta(alpha (sign(w) * sign(repeat_beta(x) + b))),    w of (C / beta, beta C, 3, 3),

so that the number of weights, 9 C^2, and the multiply-adds stay as they were, while each output
value sums beta times as many bits. Copies are not idle: each has a threshold b of its own before
the sign (ReActNet's, which RepAdamBNN has in this place), so a value is seen in beta bits.

The layer is the first half of the block of RepAdamBNN in the authors' code: threshold, sign, binary
convolution, repetition, then the shortcut. Signs have the gradient of Bi-Real net's quadratic,
weights that of clip(w, -1, 1); alpha is mean |w| of a filter, without a gradient.

What differs from the paper. There, features have beta C channels throughout the network; here a
neck gives C, the input is repeated within the layer, and the output is repeated back to C. The norm
after the repetition, which gives each copy its own size (RepTran's rule for batch norm), is a
weight a channel; the neck's norm follows the shortcut. Thresholds start at 0 as theirs do.

Relation to gnConv: none in the operator. As `bdnn` does, it shows how far a fusion gets without
multiplications; the shortcut keeps a real-valued path, as HorNet's blocks do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.straight_through import binarize, binarize_smoothly


class RepBnn(nn.Module):
    """Threshold, sign, binary 3x3 convolution of few filters, repetition, shortcut.

    Args:
        channels: C of input and output, a multiple of `beta`.
        beta: How often input and output are repeated.
        skip: Add the input to the output, as the block of the paper does.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `channels` is no multiple of `beta`.
    """

    def __init__(self, channels: int, *, beta: int = 2, skip: bool = True) -> None:
        """Create thresholds (beta C), a weight (C / beta, beta C, 3, 3) and sizes of copies (C)."""
        super().__init__()
        if beta < 1 or channels % beta:
            raise ValueError(
                f"got channels={channels} and beta={beta}; allowed is a beta of 1 or more that "
                "divides the channels."
            )
        self.beta = beta
        self.skip = skip
        self.bias = nn.Parameter(torch.zeros(beta * channels, 1, 1))
        conv = nn.Conv2d(beta * channels, channels // beta, 3)
        self.weight = nn.Parameter(conv.weight.detach())
        self.size = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve signs: (N, C, H, W) -> (N, C, H, W)."""
        alpha = self.weight.detach().abs().mean((1, 2, 3), keepdim=True)
        bits = binarize_smoothly(x.repeat(1, self.beta, 1, 1) + self.bias)
        out = F.conv2d(bits, alpha * binarize(self.weight), padding=1)
        out = out.repeat(1, self.beta, 1, 1) * self.size
        return x + out if self.skip else out

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"beta={self.beta}, skip={self.skip}"
