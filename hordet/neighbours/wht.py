r"""Walsh-Hadamard layer: thresholds on the map's Walsh-Hadamard coefficients in place of kernels.

Papers: H. Pan, D. Badawi and A. E. Cetin, "Fast Walsh-Hadamard Transform and Smooth-Thresholding
Based Binary Layers in Deep Neural Networks" (CVPR Workshops 2021); "Block Walsh-Hadamard Transform
Based Binary Layers in Deep Neural Networks" (ACM TECS 2022). With H the transform (a matrix of +1
and -1 over its root, its own inverse) and S a threshold with a trained T for each coefficient,

    1-D, over the channels of a pixel:      out = H S_T(H x)
    2-D, over blocks of b x b pixels:       out = H S_T(v * H x H) H,  each channel alone
    smooth: S_T(x) = tanh(x) relu(|x| - T)      soft: S_T(x) = sign(x) relu(|x| - T)

with v a trained weight a coefficient. 1-D stands for a 1x1 convolution and has as many parameters
as channels; 2-D stands for a 3x3 one and has 2 b^2.

**Relation to gnConv.** tanh(x) |x| is close to x^2 sign(x) for small x: a product of each
coefficient with itself, where gnConv multiplies different functions of the map. The 2-D form with
its weight a coefficient is the counterpart of the global filter of HorNet-GF, of real numbers and
over blocks in place of the whole map.

**What differs from the papers.** Both forms in a row, 2-D then 1-D, are the default, which is a
separable 3x3 convolution's place; the papers use them alone. Channels are filled with zeros to a
power of two and maps to whole blocks, and cut off again, as in the authors' code. A constant block
size lets one set of weights serve maps of every size; b = 8 was chosen here. Both transforms are
orthonormal, so that T has the same meaning in both. A T below 0 raises a coefficient, as in the
authors' code, and so every T has a gradient whatever its value.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Form = Literal["1d", "2d", "2d+1d"]
Threshold = Literal["smooth", "soft"]


class WHTFusion(nn.Module):
    """Walsh-Hadamard transform, threshold, and back; over blocks of pixels, over channels, or both.

    Args:
        channels: C of input and output.
        form: '1d' (channels), '2d' (pixels) or '2d+1d'.
        block_size: b, a power of 2 (forms with '2d').
        threshold: 'smooth' or 'soft'.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: An option is unknown, or `block_size` is no power of 2.
    """

    def __init__(
        self,
        channels: int,
        form: Form = "2d+1d",
        block_size: int = 8,
        threshold: Threshold = "smooth",
    ) -> None:
        """Create the thresholds and the weights of the coefficients."""
        super().__init__()
        if form not in ("1d", "2d", "2d+1d") or threshold not in ("smooth", "soft"):
            raise ValueError(
                f"got form={form!r} and threshold={threshold!r}; allowed are '1d', '2d', '2d+1d', "
                "and 'smooth', 'soft'."
            )
        if block_size < 1 or block_size & (block_size - 1):
            raise ValueError(f"got block_size={block_size}; allowed are 1, 2, 4, 8 and so on.")
        self.form = form
        self.threshold = threshold
        self.block_size = block_size
        if form != "1d":
            self.weight = nn.Parameter(torch.empty(block_size, block_size))  # v
            self.thresholds_2d = nn.Parameter(torch.empty(block_size, block_size))
        if form != "2d":
            self.thresholds_1d = nn.Parameter(torch.empty(1 << (channels - 1).bit_length()))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start v at 1, T of 2-D from 0 up to 1/5 with the frequency, T of 1-D at random.

        The coefficients are in Hadamard's order; the frequency of one is its sequency, the number
        of changes of sign along its row of H.
        """
        if self.form != "1d":
            nn.init.ones_(self.weight)
            rows = _transform(torch.eye(self.block_size), 1)
            sequency = (rows[:, 1:] * rows[:, :-1] < 0).sum(1)
            self.thresholds_2d.copy_((sequency[:, None] + sequency) / (10 * self.block_size))
        if self.form != "2d":
            nn.init.uniform_(self.thresholds_1d, 0, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Threshold the coefficients: (N, C, H, W) -> (N, C, H, W)."""
        if self.form != "1d":
            x = self._filter_blocks(x)
        if self.form != "2d":
            x = self._filter_channels(x)
        return x

    def _filter_blocks(self, x: Tensor) -> Tensor:
        """2-D form: (N, C, H, W) -> (N, C, H, W)."""
        (height, width), b = x.shape[2:], self.block_size
        blocks = F.pad(x, [0, -width % b, 0, -height % b])
        blocks = blocks.unflatten(3, (-1, b)).unflatten(2, (-1, b))  # (N, C, rows, b, columns, b)
        blocks = _transform(_transform(blocks, 3), 5)
        blocks = self._shrink(blocks * self.weight[:, None], self.thresholds_2d[:, None])
        blocks = _transform(_transform(blocks, 3), 5)
        return blocks.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]

    def _filter_channels(self, x: Tensor) -> Tensor:
        """1-D form: (N, C, H, W) -> (N, C, H, W)."""
        channels, size = x.shape[1], self.thresholds_1d.numel()
        coefficients = _transform(F.pad(x, [0, 0, 0, 0, 0, size - channels]), 1)
        shrunk = self._shrink(coefficients, self.thresholds_1d[:, None, None])
        return _transform(shrunk, 1)[:, :channels]

    def _shrink(self, x: Tensor, thresholds: Tensor) -> Tensor:
        """Apply S_T to coefficients; thresholds of a shape that fits them."""
        rest = (x.abs() - thresholds).relu()
        return (x.tanh() if self.threshold == "smooth" else x.sign()) * rest

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"form={self.form!r}, block_size={self.block_size}, threshold={self.threshold!r}"


def _transform(x: Tensor, dim: int) -> Tensor:
    """Walsh-Hadamard transform of an axis of 2^m: m steps of sums and differences of pairs."""
    size = x.shape[dim]
    step = 1
    while step < size:
        pairs = x.unflatten(dim, (-1, 2, step))
        first, second = pairs.unbind(dim + 1)
        x = torch.stack([first + second, first - second], dim + 1).flatten(dim, dim + 2)
        step *= 2
    return x * size**-0.5
