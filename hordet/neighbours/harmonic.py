"""Harmonic convolution: magnitudes that turn with the image (Worrall et al., CVPR 2017).

Harmonic Networks (H-Nets) restrict filters to circular harmonics

    W_m(r, phi) = R(r) exp(i (m phi + beta)),

with a learned radial profile R, a learned phase beta and an integer rotation order m; phi runs from
columns to rows. If the image turns by theta, the response at the turned place is multiplied by
exp(i m theta): its magnitude is the same, its phase counts the turn. Responses of order m_1 seen by
a filter of order m_2 have order m_1 + m_2, so a layer keeps one stream of maps an order and joins
streams whose orders agree: from order a to order b leads a filter of order b - a, and a filter of
order -m is the conjugate of that of order m, with which it shares weights.

This fusion is the smallest whole H-Net. A map (order 0, real) is lifted to streams of the orders 0
to `max_order`, a ReLU acts on their magnitudes (C-ReLU: |z| -> ReLU(|z| + b)), a second layer joins
all streams with all, and the magnitudes of its streams are the output.

The filters live on the pixel grid as the authors' code has them: each ring of radius r_j is sampled
at even angles and spread over the pixels by a Gaussian of standard deviation 0.5, so that angular
aliases are damped. For a 5x5 filter the radii are 0 and 1.5 for order 0 and 1 and 1.5 above.

What differs from the paper. The number of angles is a multiple of four (the authors take 101),
which makes turns by 90 degrees exact. Weights start with a variance that keeps that of a white map,
by the norm of the sampled basis. The authors' batch norm of magnitudes between the layers is left
out; the neck has its own norm.

Relation to gnConv: both are more than linear. A gnConv multiplies a map by a map; a magnitude is
the root of a sum of two squared maps, a product of second order whose symmetry is built in.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ANGLES = 104  # samples of a ring; a multiple of 4
BANDWIDTH = 0.5  # of the Gaussian between rings and pixels, in pixels
EPSILON = 1e-12  # of a squared magnitude, for the gradient of its root


def sample_basis(kernel_size: int, order: int) -> Tensor:
    """Return the circular harmonics of an order on the pixel grid.

    Args:
        kernel_size: Odd width of the filter in pixels.
        order: m, not negative.

    Returns:
        (2, rings, kernel_size, kernel_size): real and imaginary part, float64.
    """
    rings = max(kernel_size // 2, 2)
    radii = torch.linspace(float(order != 0), rings - 0.5, rings, dtype=torch.float64)
    angles = torch.arange(ANGLES, dtype=torch.float64) * (2 * math.pi / ANGLES)
    line = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
    x = radii[:, None] * angles.cos()
    y = radii[:, None] * angles.sin()
    # (rings, angles, rows, columns)
    distance = (x[..., None, None] - line) ** 2 + (y[..., None, None] - line[:, None]) ** 2
    spread = torch.exp(-0.5 * distance / BANDWIDTH**2)
    spread = spread / spread.sum((-2, -1), keepdim=True)
    wave = torch.stack(((order * angles).cos(), (order * angles).sin())) / ANGLES
    return torch.einsum("ca,rayx->cryx", wave, spread)


class HarmonicConv2d(nn.Module):
    """Convolution from streams of rotation orders to streams of rotation orders.

    Args:
        in_channels: Channels of each input stream.
        out_channels: Channels of each output stream.
        max_order: The output has the orders 0 to this.
        kernel_size: Odd width of the filters.
        lift: The input is one real map of order 0; otherwise it has the orders 0 to `max_order`.

    Shape:
        (N, streams, in_channels, H, W), where the streams are real and imaginary part of order 0,
        of order 1 and so on, or the one real map -> (N, 2 (max_order + 1), out_channels, H, W).
    """

    def __init__(
        self, in_channels: int, out_channels: int, max_order: int, kernel_size: int, lift: bool
    ) -> None:
        """Create radial weights (out, in, rings) and phases (out, in) for each order."""
        super().__init__()
        self.max_order = max_order
        self.lift = lift
        self.kernel_size = kernel_size
        self.radial = nn.ParameterList()
        self.phase = nn.ParameterList()
        sources = 1 if lift else max_order + 1  # streams that each output sums
        for order in range(max_order + 1):
            basis = sample_basis(kernel_size, order)
            self.register_buffer(f"basis{order}", basis.float(), persistent=False)
            std = (in_channels * sources * basis.square().sum().item()) ** -0.5
            weight = torch.empty(out_channels, in_channels, basis.shape[1])
            self.radial.append(nn.Parameter(nn.init.normal_(weight, std=std)))
            phase = torch.empty(out_channels, in_channels)
            self.phase.append(nn.Parameter(nn.init.uniform_(phase, 0, 2 * math.pi)))

    def compute_filter(self, order: int) -> tuple[Tensor, Tensor]:
        """Return real and imaginary part of the filters of an order: twice (out, in, k, k)."""
        m = abs(order)
        basis = getattr(self, f"basis{m}")
        cosine, sine = torch.einsum("oir,cryx->coiyx", self.radial[m], basis)
        c, s = self.phase[m].cos()[..., None, None], self.phase[m].sin()[..., None, None]
        real, imaginary = c * cosine - s * sine, s * cosine + c * sine
        return (real, imaginary) if order >= 0 else (real, -imaginary)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve all streams by one real convolution."""
        rows = []
        for to in range(self.max_order + 1):
            real_row, imaginary_row = [], []
            for source in range(1 if self.lift else self.max_order + 1):
                real, imaginary = self.compute_filter(to - source)
                # (a + ib)(u + iv) = (ua - vb) + i(va + ub); a lifted map has no b.
                real_row += [real] if self.lift else [real, -imaginary]
                imaginary_row += [imaginary] if self.lift else [imaginary, real]
            rows += [torch.cat(real_row, 1), torch.cat(imaginary_row, 1)]
        out = F.conv2d(x.flatten(1, 2), torch.cat(rows), padding=self.kernel_size // 2)
        return out.unflatten(1, (len(rows), -1))


def compute_magnitude(z: Tensor) -> Tensor:
    """Return |z|: (N, 2 orders, C, H, W) -> (N, orders, C, H, W), at least in float32."""
    z = z.to(torch.promote_types(z.dtype, torch.float32)).unflatten(1, (-1, 2))
    return (z.square().sum(2) + EPSILON).sqrt()


class Harmonic(nn.Module):
    """Two harmonic convolutions with a C-ReLU between them; magnitudes come out.

    Args:
        channels: C of input and output, at least `max_order` + 1.
        max_order: Highest rotation order M. The hidden streams have ceil(C / (M + 1)) channels
            each, so have the output's, of which the last are left out where C does not divide.
        kernel_size: Odd width of the filters, at least 3; the paper's is 5.

    Shape:
        (N, C, H, W) -> (N, C, H, W), not negative.

    Raises:
        ValueError: `kernel_size` is even or below 3, or `max_order` is negative.
    """

    def __init__(self, channels: int, *, max_order: int = 1, kernel_size: int = 5) -> None:
        """Create both layers; the biases of the C-ReLU start at 0.01, as the authors'."""
        super().__init__()
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"got kernel_size={kernel_size}; allowed are 3, 5, 7 and so on.")
        if max_order < 0:
            raise ValueError(f"got max_order={max_order}; allowed are 0, 1, 2 and so on.")
        orders = max_order + 1
        width = -(-channels // orders)
        self.channels = channels
        self.lift = HarmonicConv2d(channels, width, max_order, kernel_size, lift=True)
        self.bias = nn.Parameter(torch.full((orders, width, 1, 1), 0.01))
        self.cross = HarmonicConv2d(width, width, max_order, kernel_size, lift=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map: (N, C, H, W) -> (N, C, H, W), dtype kept."""
        z = self.lift(x[:, None])
        magnitude = compute_magnitude(z)
        gain = F.relu(magnitude + self.bias) / magnitude
        # The gain of a magnitude near 0 is beyond float16; their product is not.
        z = (z * gain.repeat_interleave(2, dim=1)).to(z.dtype)
        return compute_magnitude(self.cross(z)).flatten(1, 2)[:, : self.channels].to(x.dtype)
