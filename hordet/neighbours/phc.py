r"""Parameterised hypercomplex convolution: a kernel that is a sum of n Kronecker products.

Paper: E. Grassucci, A. Zhang and D. Comminiello, "PHNNs: Lightweight Neural Networks via
Parameterized Hypercomplex Convolutions" (IEEE TNNLS 2022, arXiv 2110.04176):

    out = H * x + b,    H = A_1 (x) F_1 + .. + A_n (x) F_n

A_i of (n, n) are the rules of an algebra, F_i of (C / n, C / n, k, k) its filters; both are
learned. H of (C, C, k, k) costs n^3 + k^2 C^2 / n parameters, about 1/n of a convolution's. n = 4
with the fixed A_i of Hamilton's product is a quaternion convolution, n = 2 with those of complex
numbers a complex one, n = 1 a convolution times a number.

**Relation to gnConv.** None in order: this is linear in the map. It saves weights by repeating
filters over groups of channels, gnConv by making its wide kernel depthwise.

**What differs from the paper.** b is added, as in the paper's equation; the authors' layer makes
one and leaves it out of the sum. The authors start A and F with torch's Xavier for tensors of
three and five axes, whose fans are not those of H; here F is scaled so that H keeps the variance of
the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PHCFusion(nn.Module):
    """Convolution with a kernel of n Kronecker products.

    Args:
        channels: C of input and output; a multiple of n.
        n: The number of products, the dimension of the algebra.
        kernel_size: k, odd.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: n does not divide C, or the kernel is even.
    """

    def __init__(self, channels: int, n: int = 4, kernel_size: int = 3) -> None:
        """Create A of (n, n, n), b of (C,), and F of (C, C / n, k, k): F_1 to F_n in a row."""
        super().__init__()
        if n < 1 or channels % n or kernel_size % 2 == 0:
            raise ValueError(
                f"got n={n} and kernel_size={kernel_size} for {channels} channels; n must divide "
                "the channels, and the kernel be odd."
            )
        self.rules = nn.Parameter(torch.empty(n, n, n))
        self.filters = nn.Parameter(torch.empty(channels, channels // n, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start A by Xavier as the authors', F so that H has a variance of 1 / (C k^2)."""
        n, (channels, _, k, _) = self.rules.shape[0], self.filters.shape
        nn.init.xavier_uniform_(self.rules)  # a variance of 1 / n^2, and H sums n products
        nn.init.normal_(self.filters, std=(n / (channels * k**2)) ** 0.5)
        nn.init.zeros_(self.bias)

    def compute_kernel(self) -> Tensor:
        """Return H: (C, C, k, k)."""
        filters = self.filters.unflatten(0, (self.rules.shape[0], -1))
        kernel = torch.einsum("nij,nopkl->iojpkl", self.rules, filters)
        return kernel.flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (N, C, H, W) -> (N, C, H, W)."""
        return F.conv2d(x, self.compute_kernel(), self.bias, padding=self.filters.shape[-1] // 2)

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        channels, _, k, _ = self.filters.shape
        return f"{channels}, n={self.rules.shape[0]}, kernel_size={k}"
