"""Cheap layers whose result the next layer does not keep for the gradient; see `recompute`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hordet.layers.norm import LayerNorm2d, layer_norm_2d
from hordet.layers.recompute import make_recomputable


class RecomputedLayerNorm2d(LayerNorm2d):
    """`LayerNorm2d` in front of a 1x1 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each pixel's channels: (N, C, H, W) -> (N, C, H, W)."""
        return make_recomputable(layer_norm_2d, x, self.weight, self.bias, self.eps)


class RecomputedLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` in front of a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension: (..., C) -> (..., C)."""
        return make_recomputable(
            F.layer_norm, x, self.normalized_shape, self.weight, self.bias, self.eps
        )


class RecomputedGELU(nn.GELU):
    """`nn.GELU` in front of a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply x * Phi(x) to each value."""
        return make_recomputable(F.gelu, x)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return a * b for a 1x1 convolution to read; for the gradient the factors are kept alone."""
    return make_recomputable(torch.mul, a, b)
