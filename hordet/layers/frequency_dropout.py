"""Frequency dropout: random filtering of feature maps (Islam and Glocker, arXiv 2209.09844, 2022).

A network that relies on a band of frequencies fails where the noise of a camera fills it. In
training, each channel of a feature map may go through a filter that changes its frequencies: a
Gaussian (keeps low ones), a Laplacian of a Gaussian (LoG) or a Gabor filter. On 3x3 pixels the last
two keep a band for some draws alone: a LoG with a sigma of 1 or more is a smoother, and many Gabor
filters pass most of the mean. Which filter and which of its parameters is drawn anew for each
forward. In evaluation the map is not filtered. Code of the authors:
https://github.com/mobarakol/Frequency_Dropout.

Known of the paper here are its abstract and its kinds of filters. Chosen here: a draw for each
channel of a batch; kernels of 3x3; sigma uniform in 0.5 to 1.5 pixels; Gabor filters of a random
direction and a wavelength of 2 to 4 pixels. Each kernel is divided by the sum of its magnitudes, so
that no filter raises the size of a map.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.wrapped_conv import WrappedConv

KINDS = ("gaussian", "log", "gabor")
SIGMA = (0.5, 1.5)  # pixels
WAVELENGTH = (2.0, 4.0)  # pixels


def compute_kernels(kinds: Tensor, sigma: Tensor, angle: Tensor, wavelength: Tensor) -> Tensor:
    """Return 3x3 kernels whose magnitudes sum to 1.

    Args:
        kinds: (C,), indices into `KINDS`.
        sigma: (C,), of the Gaussian that each kind is made of, in pixels.
        angle: (C,), direction of a Gabor filter's wave in radians.
        wavelength: (C,), of a Gabor filter in pixels.

    Returns:
        (C, 3, 3).
    """
    line = torch.arange(-1.0, 2.0, device=sigma.device)
    y, x = line[:, None], line
    square = (x**2 + y**2) / (2 * sigma[:, None, None] ** 2)
    gaussian = torch.exp(-square)
    log = (1 - square) * gaussian
    along = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    gabor = gaussian * (2 * math.pi * along / wavelength[:, None, None]).cos()
    chosen = torch.stack((gaussian, log, gabor))[kinds, torch.arange(len(kinds))]
    return chosen / chosen.abs().sum((-2, -1), keepdim=True)


class FrequencyDropout(WrappedConv):
    """A convolution whose output channels are filtered at random in training.

    Args:
        conv: The convolution; its output is a map.
        p: Probability that a channel is filtered, 0 to 1.

    Shape:
        As the convolution's.

    Raises:
        ValueError: `p` is outside of its range.
    """

    def __init__(self, conv: nn.Module, p: float = 0.5) -> None:
        """Keep the convolution."""
        super().__init__(conv)
        if not 0 <= p <= 1:
            raise ValueError(f"got p={p}; allowed is 0 to 1.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and filter the channels that are drawn."""
        out = self.conv(x)
        if not self.training or self.p == 0:
            return out
        channels, device = out.shape[1], out.device
        unit = torch.rand(4, channels, device=device)
        sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * unit[1]
        wavelength = WAVELENGTH[0] + (WAVELENGTH[1] - WAVELENGTH[0]) * unit[3]
        kinds = torch.randint(len(KINDS), (channels,), device=device)
        kernels = compute_kernels(kinds, sigma, math.pi * unit[2], wavelength)
        whole = torch.zeros_like(kernels)
        whole[:, 1, 1] = 1
        kernels = torch.where((unit[0] < self.p)[:, None, None], kernels, whole)
        # Edges are repeated: zeros beyond the border would be an edge of their own.
        padded = F.pad(out, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, kernels[:, None].to(out.dtype), groups=channels)

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"p={self.p}"
