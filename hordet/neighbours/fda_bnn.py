"""FDA-BNN: the gradient of sign by its sine series (Xu et al., NeurIPS 2021).

A binary network needs a gradient of sign. Frequency domain approximation takes the square wave that
equals sign near 0 and keeps the first terms of its Fourier series,

    s_n(x) = (4 / pi) sum_{i=0..n} sin((2 i + 1) omega x) / (2 i + 1),
    s_n'(x) = (4 omega / pi) sum_{i=0..n} cos((2 i + 1) omega x),

forward sign(x), backward s_n'(x) within -1 and 1. More terms come nearer to sign: n rises from 9 to
18 in the course of a training. What the series lacks is left to a noise adaptation module, which
adds to both signs a small learned term that fades until it is gone:

    b(x) = sign(x) + alpha eta(x),    eta(x) = W_2 ReLU(W_1 x) + 0.1 sin(x),

with alpha from 0.1 to 0 along half a cosine. eta runs over a whole filter for weights (9 C values,
9 C / 64 hidden) and over the channels of a pixel for inputs (C values, C / 64 hidden).

What differs from the paper and its code (MindSpore's model zoo, and its port to torch, from which
omega = 0.1, the number of terms and the hidden widths are). The schedule counts training forwards
in a buffer instead of epochs, so that it is part of a checkpoint and needs no hook; `steps` is its
length, and with activations that are recomputed a step counts twice. A hidden layer has at least
one unit. The norm in front is over all values of an image in the place of batch norm. The scale is
the mean |w| of a filter, without a gradient, as in the authors' code.

Relation to gnConv: HorNet-GF and this work both go to the frequency domain, the one of the map, the
other of the activation function.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.straight_through import sign

OMEGA = 0.1
FIRST_TERMS, LAST_TERMS = 9, 18  # n at the start and at the end
ALPHA = 0.1  # weight of the noise at the start
SHRINK = 64  # inputs of the noise module for each of its hidden units


class _SineSign(torch.autograd.Function):
    """Sign whose gradient is that of the first terms of its sine series; `n` has no dimensions."""

    @staticmethod
    def forward(ctx, x: Tensor, n: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, n)
        return sign(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        x, n = ctx.saved_tensors
        # sum_{i=0..n} cos((2i + 1) t) = sin(2 (n + 1) t) / (2 sin t), and n + 1 at t = 0.
        t = OMEGA * x
        near = t.abs() < 1e-4
        total = torch.where(near, n + 1, (2 * (n + 1) * t).sin() / (2 * t.sin()))
        slope = 4 * OMEGA / math.pi * total
        return torch.where(x.abs() <= 1, grad * slope.to(grad.dtype), 0), None


class Noise(nn.Module):
    """eta: (..., width) -> (..., width)."""

    def __init__(self, width: int) -> None:
        """Create W_1 of (width / 64, width) and W_2 of (width, width / 64)."""
        super().__init__()
        hidden = max(1, width // SHRINK)
        self.down = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the term that is added to a sign."""
        return self.up(self.down(x).relu()) + 0.1 * x.sin()


class FdaBnn(nn.Module):
    """Norm, and a 3x3 convolution of signs with FDA's gradient and its fading noise.

    Args:
        channels: C of input and output.
        steps: Training forwards after which the noise is gone.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `steps` is below 1.
    """

    step: Tensor

    def __init__(self, channels: int, *, steps: int = 10000) -> None:
        """Create the norm, a weight of (C, C, 3, 3) and the noise modules of weight and input."""
        super().__init__()
        if steps < 1:
            raise ValueError(f"got steps={steps}; allowed are 1 and more.")
        self.steps = steps
        self.norm = nn.GroupNorm(1, channels)
        self.weight = nn.Parameter(nn.Conv2d(channels, channels, 3).weight.detach())
        self.weight_noise = Noise(9 * channels)
        self.input_noise = Noise(channels)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def compute_schedule(self) -> tuple[Tensor, Tensor]:
        """Return n, the number of terms less one, and alpha, the weight of the noise."""
        progress = (self.step / self.steps).clamp(max=1)
        n = FIRST_TERMS + (progress * (LAST_TERMS - FIRST_TERMS)).floor()
        return n, ALPHA / 2 * (1 + (math.pi * progress).cos())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve signs: (N, C, H, W) -> (N, C, H, W)."""
        n, alpha = self.compute_schedule()
        if self.training:
            self.step += 1
        x, w = self.norm(x), self.weight
        weight_noise = self.weight_noise(w.flatten(1)).view_as(w)
        input_noise = self.input_noise(x.movedim(1, -1)).movedim(-1, 1)
        scale = w.detach().abs().mean((1, 2, 3), keepdim=True)
        weight = scale * (_SineSign.apply(w, n) + alpha * weight_noise)
        return F.conv2d(_SineSign.apply(x, n) + alpha * input_noise, weight, padding=1)

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"steps={self.steps}"
