"""BDNN: a convolution whose weights and inputs have one bit, as in binarized detectors.

Binarized networks (Hubara et al., "Binarized neural networks", NeurIPS 2016; for detection BDNN,
Peng and Chen, Pattern Recognition Letters 125, 2019) compute with signs, so that a product is an
XNOR and a sum counts bits. In the order of XNOR-Net (Rastegari et al., ECCV 2016)

    y_o = alpha_o (sign(w_o) * sign(norm(x))),    alpha_o = mean |w_o|,

where alpha_o is the factor with which sign(w_o) is nearest to the real filter w_o. The sign has no
slope; its gradient is that of clip(., -1, 1), for weights and inputs. alpha is differentiated as
well, as in XNOR-Net.

What differs from the papers. The norm in front is over all values of an image (GroupNorm with one
group, a weight and a bias a channel) where they have batch norm: detectors train with two images a
process. The factors K of the inputs, which XNOR-Net finds to be of no use, are left out. The sign
of 0 is 1; the border is padded by 0, which counts for neither. Weights are trained as real numbers,
and this implementation computes in them: it shows what the method costs in accuracy, and no kernel
of bits is here to show its speed.

Relation to gnConv: the opposite direction. A gnConv spends multiplications of maps with maps to
gain order, this layer has none left at all.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.straight_through import binarize


class Bdnn(nn.Module):
    """Norm, sign, and a 3x3 convolution with the signs of its weights.

    Args:
        channels: C of input and output.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        """Create the norm and a weight of (C, C, 3, 3) with torch's start of a convolution."""
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.weight = nn.Parameter(nn.Conv2d(channels, channels, 3).weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve signs: (N, C, H, W) -> (N, C, H, W)."""
        alpha = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return F.conv2d(binarize(self.norm(x)), alpha * binarize(self.weight), padding=1)
