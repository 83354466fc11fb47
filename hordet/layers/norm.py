"""Layer normalization over the channels of a feature map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Layer normalization over the channels of each pixel (ConvNeXt, `channels_first`).

    Args:
        channels: C of the input.
        eps: Added to the variance.

    Shape:
        (N, C, H, W) -> (N, C, H, W), dtype kept. The result lies channels-last in memory.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        """Create the affine weight (ones) and bias (zeros), each of shape (C,)."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each pixel's channels: (N, C, H, W) -> (N, C, H, W)."""
        return layer_norm_2d(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Describe the layer in `print(model)`."""
        return f"{self.weight.numel()}, eps={self.eps}"


def layer_norm_2d(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """Normalize each pixel's channels, times (C,) plus (C,): (N, C, H, W) -> (N, C, H, W)."""
    normed = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], weight, bias, eps)
    return normed.permute(0, 3, 1, 2).to(x.dtype)
