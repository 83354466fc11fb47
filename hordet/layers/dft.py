"""The filter in the frequency domain without complex numbers: Fourier transforms as products.

For runtimes that have no FFT. A transform of length n takes n^2 products a line instead of
n log n; the maps of a pyramid are small enough for that.
"""

import torch
from torch import Tensor


def dft_filter(x: Tensor, weight: Tensor) -> Tensor:
    """Compute irfft2(rfft2(x) * weight) of each plane; exact to rounding, for any size.

    Args:
        x: (N, C, H, W), float32 or float64.
        weight: The filter's real and imaginary parts, (C, H, W // 2 + 1, 2).

    Returns:
        (N, C, H, W).
    """
    height, width = x.shape[-2:]
    columns = width // 2 + 1
    cos_w, sin_w = _waves(width, columns, x)
    cos_h, sin_h = _waves(height, height, x)
    # exp(-it) = cos t - i sin t, first along the rows, of which a real image needs one half.
    even, odd = x @ cos_w, x @ sin_w
    real, imaginary = cos_h @ even - sin_h @ odd, -(sin_h @ even) - cos_h @ odd
    a, b = weight.unbind(-1)
    real, imaginary = real * a - imaginary * b, real * b + imaginary * a
    # Back, with exp(it). The columns left out are conjugates of those from 1 to below n / 2.
    k = torch.arange(columns, device=x.device)
    twice = torch.where((k == 0) | (2 * k == width), 1, 2).to(x.dtype)
    even = (cos_h @ real - sin_h @ imaginary) * twice
    odd = (sin_h @ real + cos_h @ imaginary) * twice
    return even @ cos_w.t() - odd @ sin_w.t()


def _waves(length: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of 2 pi j k / length over the root of length, (length, count)."""
    j = torch.arange(length, device=like.device)
    # The length as a tensor: an exporter reasons about numbers that stand for sizes, at length.
    whole = j[-1] + 1
    # Whole turns are taken off while the numbers are whole: j k / length would lose digits.
    turn = j[:, None] * j[None, :count] % whole
    turn = torch.where(2 * turn > whole, turn - whole, turn)
    angle = turn.to(like.dtype) * (2 * torch.pi / whole.to(like.dtype))
    scale = whole.to(like.dtype).rsqrt()
    return angle.cos() * scale, angle.sin() * scale
