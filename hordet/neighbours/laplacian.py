r"""Global Laplacians: a step of diffusion in which every pixel exchanges with every other.

Paper: B. Bohn, M. Griebel and D. Kannan, "Deep Neural Networks and PIDE Discretizations" (SIAM
Journal on Mathematics of Data Science 2022, arXiv 2108.02430): layers as steps of partial
integro-differential equations. After a convolution u, with theta and phi 1x1 convolutions to C / 2
channels, omega_ij a function of theta(u_i) and phi(u_j), n pixels j, lambda = 0.1 and h = 0.05,

    X_0 = u,   X_k = u + h relu(BN(W_k L(X_{k-1}))),   k = 1 .. stages,   out = X_stages

- 'diffusion', the global weighted Laplacian: L(X)_i = (lambda / n) sum_j omega_ij (X_j - X_i) with
  omega_ij = theta_i . phi_j; with affinity 'gaussian' softmax_j(lambda omega_ij) is in the place of
  (lambda / n) omega_ij;
- 'fractional', (-Delta)^s: L(X)_i = (lambda / n) sum_j omega_ij (X_i - X_j),
  omega_ij = c_{2,s} / |theta_i - phi_j|^(2 + 2s), c_{2,s} = 4^s Gamma(1 + s) / (pi |Gamma(-s)|);
- 'inverse', (-Delta)^(-s): L(X)_i = (lambda / n) sum_j omega_ij X_j,
  omega_ij = Gamma(1 - s) / (4^s pi Gamma(s)) / |theta_i - phi_j|^(2 - 2s).

Pairs at a distance of 0 count nothing. With `pool_size` j runs over the max-pooled phi and X.

**Relation to gnConv.** 'diffusion' is the non-local block (`hordet.neighbours.non_local`) of the
differences X_j - X_i: a polynomial of degree three of u in its first stage, over the whole map, and
zero where the map is constant, which no gnConv is.

**What differs from the paper.** The formulas and constants are those of the authors' code, the
residual of every stage starts from u there, too. 'diffusion' with 'dot' sums phi(u)^T X first, so
that no matrix of all pairs is made; the others make it. The convolution in front is FPN's 3x3 one,
or none with `kernel_size=None`; in the paper the block stands between convolutions.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Operator = Literal["diffusion", "fractional", "inverse"]
Affinity = Literal["dot", "gaussian"]


class LaplacianFusion(nn.Module):
    """Convolution, then steps of diffusion over the whole map.

    Args:
        channels: C of input and output, at least 2.
        operator: 'diffusion', 'fractional' or 'inverse'.
        affinity: 'dot' or 'gaussian' ('diffusion' only).
        s: The power of the Laplacian, between 0 and 1 ('fractional' and 'inverse' only).
        stages: How often the operator is applied.
        kernel_scale: lambda.
        step_size: h.
        pool_size: Size and stride of the max-pooling of j's side; 1 for none.
        kernel_size: Odd size of the convolution in front; None for none.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: An option is unknown or out of its range.
    """

    def __init__(
        self,
        channels: int,
        operator: Operator = "diffusion",
        affinity: Affinity = "dot",
        s: float = 0.5,
        stages: int = 2,
        kernel_scale: float = 0.1,
        step_size: float = 0.05,
        pool_size: int = 1,
        kernel_size: int | None = 3,
    ) -> None:
        """Create the convolution, theta, phi, and W_k with its norm for each stage."""
        super().__init__()
        if operator not in ("diffusion", "fractional", "inverse"):
            raise ValueError(
                f"got operator={operator!r}; allowed are 'diffusion', 'fractional', 'inverse'."
            )
        if affinity not in ("dot", "gaussian"):
            raise ValueError(f"got affinity={affinity!r}; allowed are 'dot' and 'gaussian'.")
        if not 0 < s < 1 or stages < 1 or pool_size < 1:
            raise ValueError(
                f"got s={s}, stages={stages} and pool_size={pool_size}; allowed are 0 < s < 1 and "
                "numbers of at least 1."
            )
        if kernel_size is not None and kernel_size % 2 == 0:
            raise ValueError(f"got kernel_size={kernel_size}; allowed are odd sizes and None.")
        self.operator, self.affinity, self.s = operator, affinity, s
        self.kernel_scale, self.step_size, self.pool_size = kernel_scale, step_size, pool_size
        self.conv: nn.Module = nn.Identity()
        if kernel_size is not None:
            self.conv = nn.Conv2d(
                channels, channels, kernel_size, padding=kernel_size // 2, bias=False
            )
        self.theta = nn.Conv2d(channels, channels // 2, 1)
        self.phi = nn.Conv2d(channels, channels // 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
            for _ in range(stages)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as the authors' code: He et al. (fan-in), biases at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and diffuse: (N, C, H, W) -> (N, C, H, W)."""
        u = self.conv(x)
        # (N, pixels, width), in float32 at least: distances need their digits.
        theta = _to_pixels(self.theta(u))
        phi = _to_pixels(self._pool(self.phi(u)))
        kernel = None
        if self.operator != "diffusion":
            with torch.autocast(u.device.type, enabled=False):
                kernel = self._compute_kernel(theta, phi)
        out = u
        for stage in self.stages:
            values, sources = _to_pixels(out), _to_pixels(self._pool(out))
            # Autocast would round the products, whose differences are what counts.
            with torch.autocast(u.device.type, enabled=False):
                change = self._exchange(kernel, theta, phi, values, sources)
            change = change.transpose(1, 2).unflatten(2, u.shape[2:]).to(u.dtype)
            out = u + self.step_size * stage(change)
        return out

    def _exchange(
        self, kernel: Tensor | None, theta: Tensor, phi: Tensor, values: Tensor, sources: Tensor
    ) -> Tensor:
        """Apply the operator: (N, I, J) or None, and as `_diffuse` -> (N, I, C)."""
        if kernel is None:
            return self._diffuse(theta, phi, values, sources)
        if self.operator == "fractional":
            return kernel.sum(2, keepdim=True) * values - kernel @ sources
        return kernel @ sources

    def _diffuse(self, theta: Tensor, phi: Tensor, values: Tensor, sources: Tensor) -> Tensor:
        """Apply the weighted Laplacian: (N, I, K), (N, J, K), (N, I, C), (N, J, C) -> (N, I, C)."""
        if self.affinity == "gaussian":
            mean = F.scaled_dot_product_attention(theta, phi, sources, scale=self.kernel_scale)
            return mean - values
        phi = phi * (self.kernel_scale / phi.shape[1])
        row_sums = theta @ phi.sum(1).unsqueeze(2)  # (N, I, 1)
        return theta @ (phi.transpose(1, 2) @ sources) - row_sums * values

    def _compute_kernel(self, theta: Tensor, phi: Tensor) -> Tensor:
        """Return lambda / n times omega: (N, I, K), (N, J, K) -> (N, I, J)."""
        s = self.s
        if self.operator == "fractional":
            power = 2 + 2 * s
            factor = 4**s * math.gamma(1 + s) / (math.pi * abs(math.gamma(-s)))
        else:
            power = 2 - 2 * s
            factor = math.gamma(1 - s) / (4**s * math.pi * math.gamma(s))
        distances = torch.cdist(theta, phi)
        apart = distances > 0
        kernel = torch.where(apart, distances, 1.0) ** -power * apart
        return kernel * (self.kernel_scale * factor / phi.shape[1])

    def _pool(self, x: Tensor) -> Tensor:
        """Max-pool j's side, as far as the map reaches: (N, K, H, W) -> (N, K, H', W')."""
        if self.pool_size == 1:
            return x
        return F.max_pool2d(x, [min(self.pool_size, side) for side in x.shape[2:]])

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"operator={self.operator!r}, affinity={self.affinity!r}, s={self.s}"


def _to_pixels(x: Tensor) -> Tensor:
    """Return (N, K, H, W) as (N, H W, K), in float32 at least."""
    return x.flatten(2).transpose(1, 2).to(torch.promote_types(x.dtype, torch.float32))
