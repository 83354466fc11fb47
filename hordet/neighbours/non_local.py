r"""Non-local block: a convolution whose pixels each add a weighted mean of all pixels.

Paper: X. Wang et al., "Non-local Neural Networks" (CVPR 2018), equations 1 to 6. With u the map
after the convolution, theta, phi and g 1x1 convolutions to C / 2 channels and i, j pixels,

    y_i = sum_j f(u_i, u_j) g(u_j) / norm(u),    out_i = W_z y_i + u_i

- 'embedded_gaussian': f = exp(theta(u_i) . phi(u_j)), norm = sum_j f, so that y is a softmax;
- 'gaussian': the same with u in the place of theta(u) and phi(u);
- 'dot_product': f = theta(u_i) . phi(u_j), norm = the number of pixels.

With `subsample` phi and g are max-pooled 2x2 ("1/4 of the pairwise computation", section 3.3).

**Relation to gnConv.** 'dot_product' is a polynomial of degree three of the map, theta(u_i) times a
sum over all pixels of phi(u_j) g(u_j); gnConv of order two is of degree three too, but multiplies
what meets at one pixel. HorNet's paper calls this family "self-attention" and gives gnConv as the
convolution that has its input-adaptive, long-range, high-order interaction.

**What differs from the paper.** No batch norm behind W_z: W_z itself starts at zero, the same
start (section 4.1). 'embedded_gaussian' is torch's fused attention, and 'dot_product' multiplies
phi(u)^T g(u) first, which is linear in the pixels: neither stores the matrix of all pairs, which
'gaussian' does. The convolution in front is FPN's 3x3 one, or none with `kernel_size=None`, the
form of a plugin (the numbers of `mmcv.cnn.NonLocal2d` with `use_scale=False`).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.front_conv import build_front_conv

Mode = Literal["embedded_gaussian", "gaussian", "dot_product"]
MODES = ("embedded_gaussian", "gaussian", "dot_product")


class NonLocalFusion(nn.Module):
    """Convolution, plus a mean over all pixels that each pixel weighs for itself.

    Args:
        channels: C of input and output.
        mode: 'embedded_gaussian', 'gaussian' or 'dot_product'.
        reduction: C / reduction is the width of theta, phi and g, at least 1.
        subsample: Max-pool phi and g by 2 (maps of one row or column stay).
        kernel_size: Odd size of the convolution in front; None for none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: `mode` is unknown, the kernel is even, or `reduction` is below 1.
    """

    def __init__(
        self,
        channels: int,
        mode: Mode = "embedded_gaussian",
        reduction: int = 2,
        subsample: bool = False,
        kernel_size: int | None = 3,
    ) -> None:
        """Create the convolution, theta, phi, g and W_z."""
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"got mode={mode!r}; allowed are {', '.join(map(repr, MODES))}.")
        self.mode = mode
        self.subsample = subsample
        self.conv = build_front_conv(channels, reduction, kernel_size)
        narrow = max(channels // reduction, 1)
        self.g = nn.Conv2d(channels, narrow, 1)
        self.theta: nn.Module = nn.Identity()
        self.phi: nn.Module = nn.Identity()
        if mode != "gaussian":
            self.theta = nn.Conv2d(channels, narrow, 1)
            self.phi = nn.Conv2d(channels, narrow, 1)
        self.conv_out = nn.Conv2d(narrow, channels, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the plain convolution: W_z is zero; theta, phi and g have a std of 0.01."""
        if isinstance(self.conv, nn.Conv2d):
            nn.init.kaiming_normal_(self.conv.weight)
        for conv in (self.g, self.theta, self.phi, self.conv_out):
            if isinstance(conv, nn.Conv2d):
                nn.init.normal_(conv.weight, std=0.01)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and add the mean: (N, C, H, W) -> (N, C, H, W)."""
        u = self.conv(x)
        # (N, H W, width); phi and g of fewer pixels with subsample.
        query = self.theta(u).flatten(2).transpose(1, 2)
        key = self._pool(self.phi(u)).flatten(2).transpose(1, 2)
        value = self._pool(self.g(u)).flatten(2).transpose(1, 2)
        if self.mode == "dot_product":
            # Half of the norm on each side: a sum over all pixels overflows float16, and a whole
            # 1 / n on one side loses its digits there.
            scale = key.shape[1] ** -0.5
            y = query @ ((key * scale).transpose(1, 2) @ (value * scale))
        else:
            # One head, and widths without gaps: torch's fused kernels ask for both.
            query, key, value = (x.unsqueeze(1).contiguous() for x in (query, key, value))
            y = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        return u + self.conv_out(y.transpose(1, 2).unflatten(2, u.shape[2:]))

    def _pool(self, x: Tensor) -> Tensor:
        """Max-pool by 2, where there are two rows or columns: (N, K, H, W) -> (N, K, H', W')."""
        if not self.subsample:
            return x
        return F.max_pool2d(x, [min(2, side) for side in x.shape[2:]])

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"mode={self.mode!r}, subsample={self.subsample}"
