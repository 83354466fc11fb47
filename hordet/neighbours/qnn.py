"""QNN: a convolution with weights and inputs of a few bits (Hubara et al., JMLR 18, 2018).

"Quantized neural networks" rounds weights and activations to even levels (LinearQuant) and passes
the gradient straight through within the range, none outside of it:

    y_o = s_o (q_b(w_o / s_o) * q_a(norm(x))),    q_b(v) = round(L clip(v, -1, 1)) / L,

with L = 2^(b - 1) - 1, so that the levels lie symmetric about 0 and their products are integers.

What differs from the paper. The scale s_o of a filter is the largest |w_o|, which the later
literature uses (Jacob et al., CVPR 2018); the paper clips weights to a fixed range, in which a
trained convolution would round to zero. It takes part in the gradient as a constant. Rounding is to
the nearest level, not at random. The norm in front, which brings inputs into the range, is over all
values of an image (GroupNorm with one group) in the place of batch norm. One bit has no symmetric
levels with a zero: that is `bdnn`. The numbers are those of integers, the arithmetic is torch's.

Relation to gnConv: none in the operator; it asks how many of the bits that a fusion computes with
are needed.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.straight_through import quantize


class Qnn(nn.Module):
    """Norm, and a 3x3 convolution in few bits.

    Args:
        channels: C of input and output.
        weight_bits: Bits of a weight, 2 to 8.
        activation_bits: Bits of an input, 2 to 8.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: A number of bits is outside of 2 to 8.
    """

    def __init__(self, channels: int, *, weight_bits: int = 4, activation_bits: int = 4) -> None:
        """Create the norm and a weight of (C, C, 3, 3) with torch's start of a convolution."""
        super().__init__()
        for name, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
            if not 2 <= bits <= 8:
                raise ValueError(f"got {name}={bits}; allowed are 2 to 8; one bit is 'bdnn'.")
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.norm = nn.GroupNorm(1, channels)
        self.weight = nn.Parameter(nn.Conv2d(channels, channels, 3).weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve levels: (N, C, H, W) -> (N, C, H, W)."""
        scale = self.weight.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        weight = scale * quantize(self.weight / scale, self.weight_bits)
        return F.conv2d(quantize(self.norm(x), self.activation_bits), weight, padding=1)

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"weight_bits={self.weight_bits}, activation_bits={self.activation_bits}"
