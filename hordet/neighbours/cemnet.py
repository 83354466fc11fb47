r"""CEMNet layer: a convolution whose norm, activation and dropout act on the spectrum of the map.

Paper: H. Pan et al., "Learning Convolutional Neural Networks in the Frequency Domain" ("CEMNet",
arXiv 2204.06718). With F the discrete Fourier transform of a map and W the
spectrum of a kernel,

    Y = sum over channels of F(x) * conj(W)             (cross-correlation theorem)
    out = real(F^-1(D(L(BN_r(real Y))) + i D(L(BN_i(imag Y)))))

The real and the imaginary part are the two branches, each with a batch norm of its own; L is a
leaky ReLU of slope 0.2, D the counterpart of dropout, a factor of N(1, (rate / 2)^2) at each
frequency while training. **Weight fixation**: a spectrum has as many numbers as a map, and
overfits; so it is taken back to a kernel, all but its first k x k values are set to 0, and
transformed again.

**Relation to gnConv.** The global filter of HorNet-GF (`fusion=dict(type='gnconv', spatial='gf')`)
also multiplies spectra by trained ones, but one spectrum a channel, not fixed to a small kernel,
between the same transforms and with no activation there; its products of two maps come after. Here
all nonlinearity is the leaky ReLU of spectra. On the imaginary part, which is odd, it is linear but
for the shift of its norm, since the real part of the way back keeps the odd share alone.

**What differs from the paper.** The paper multiplies conj(F(x)) by W, which mirrors the map; a
dense prediction needs it as it is. Fixation is done at every step, as in the authors' later code;
a fixed spectrum is a circular convolution with its k x k kernel, and is computed as one: the same
numbers without a spectrum of each of the C^2 kernels. By default the kernel itself is trained, as
in the authors' memory-saving code; with `size` the spectrum is (of real kernels, so half of it is
enough). The paper has one network in the frequency domain; here each layer transforms there and
back, as F is linear. F is orthonormal, which the norms undo but for their eps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CEMFusion(nn.Module):
    """Circular convolution; batch norm, leaky ReLU and dropout on the spectrum of its output.

    Args:
        channels: C of input and output.
        kernel_size: k, odd.
        size: (h, w), at least k each, of the trained spectrum; None trains the kernel.
        negative_slope: Of the leaky ReLU.
        drop_rate: Of the paper's dropout; 0 for none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: The kernel is even, or greater than the spectrum; `drop_rate` is negative.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        size: tuple[int, int] | None = None,
        negative_slope: float = 0.2,
        drop_rate: float = 0.0,
    ) -> None:
        """Create the kernel or its spectrum, and the two batch norms."""
        super().__init__()
        if kernel_size % 2 == 0 or (size is not None and min(size) < kernel_size):
            raise ValueError(
                f"got kernel_size={kernel_size} and size={size}; allowed are odd kernels that fit "
                "into the size."
            )
        if drop_rate < 0:
            raise ValueError(f"got drop_rate={drop_rate}; allowed are 0 and more.")
        self.kernel_size = kernel_size
        self.size = None if size is None else tuple(size)
        self.negative_slope = negative_slope
        self.drop_rate = drop_rate
        if size is None:
            self.weight = nn.Parameter(torch.empty(channels, channels, kernel_size, kernel_size))
        else:
            shape = channels, channels, size[0], size[1] // 2 + 1
            self.weight_real = nn.Parameter(torch.empty(shape))
            self.weight_imag = nn.Parameter(torch.empty(shape))
        self.norm_real = nn.BatchNorm2d(channels)
        self.norm_imag = nn.BatchNorm2d(channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the authors' code: a small random kernel (He et al.), or its spectrum."""
        channels, k = self.norm_real.num_features, self.kernel_size
        kernel = torch.empty(channels, channels, k, k)
        nn.init.kaiming_normal_(kernel)
        if self.size is None:
            self.weight.copy_(kernel)
        else:
            spectrum = torch.fft.rfft2(kernel, s=self.size)
            self.weight_real.copy_(spectrum.real)
            self.weight_imag.copy_(spectrum.imag)

    def compute_kernel(self) -> Tensor:
        """Return the kernel after weight fixation: (C, C, k, k)."""
        if self.size is None:
            return self.weight
        kernel = torch.fft.irfft2(torch.complex(self.weight_real, self.weight_imag), s=self.size)
        return kernel[:, :, : self.kernel_size, : self.kernel_size]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and work on the spectrum: (N, C, H, W) -> (N, C, H, W)."""
        (height, width), k = x.shape[2:], self.kernel_size
        rows = torch.arange(height + k - 1, device=x.device) % height
        columns = torch.arange(width + k - 1, device=x.device) % width
        y = F.conv2d(x[:, :, rows][:, :, :, columns], self.compute_kernel())
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        spectrum = torch.fft.fft2(y, norm="ortho")
        real = self._activate(self.norm_real(spectrum.real))
        imag = self._activate(self.norm_imag(spectrum.imag))
        out = torch.fft.ifft2(torch.complex(real, imag), norm="ortho").real
        # Centered: the theorem's kernel begins at the pixel itself.
        return out.roll((k // 2, k // 2), (2, 3)).to(x.dtype)

    def _activate(self, part: Tensor) -> Tensor:
        """Apply leaky ReLU and dropout to one part of the spectrum: (N, C, H, W), any."""
        part = F.leaky_relu(part, self.negative_slope)
        if self.training and self.drop_rate > 0:
            part = part * (1 + self.drop_rate / 2 * torch.randn_like(part))
        return part

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"{self.norm_real.num_features}, kernel_size={self.kernel_size}, size={self.size}"
