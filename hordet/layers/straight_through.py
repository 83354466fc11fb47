"""Rounding and sign with a gradient: straight-through estimators of binary and quantized layers."""

import torch
from torch import Tensor


def replace_forward(slope: Tensor, value: Tensor) -> Tensor:
    """Return `value`, bit for bit, whose gradient is that of `slope`, of the same shape."""
    return value.detach() + (slope - slope.detach())


def sign(x: Tensor) -> Tensor:
    """Return 1 where x >= 0 and -1 below, without a gradient; NaN stays NaN."""
    x = x.detach()
    return torch.where(x >= 0, 1.0, torch.where(x < 0, -1.0, x)).to(x.dtype)


def binarize(x: Tensor) -> Tensor:
    """Return the sign of x with a gradient of 1 where |x| <= 1 (Hubara et al., NeurIPS 2016)."""
    return replace_forward(_pass_inside(x), sign(x))


def binarize_smoothly(x: Tensor) -> Tensor:
    """Return the sign of x with the gradient 2 - 2 |x| within -1 and 1 (Liu et al., ECCV 2018)."""
    clipped = x.clamp(-1, 1)
    return replace_forward(clipped * (2 - clipped.abs()), sign(x))


def quantize(x: Tensor, bits: int) -> Tensor:
    """Return x in 2^bits - 1 even levels from -1 to 1, with a gradient of 1 where |x| <= 1.

    Args:
        x: Any shape.
        bits: At least 2, for the levels -1, 0 and 1.
    """
    steps = 2 ** (bits - 1) - 1
    return replace_forward(_pass_inside(x), (x.clamp(-1, 1) * steps).round() / steps)


def _pass_inside(x: Tensor) -> Tensor:
    # Not clamp: at the bounds, its gradient is 1 in some releases of torch and 0 in others.
    return torch.where(x.abs() <= 1, x, 0)
