"""Adaptive average pooling for maps of any size, in operators that ONNX has."""

import torch
from torch import Tensor, nn


class AdaptiveAveragePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` by two matrix products; ONNX has no such operator.

    Row i of n becomes the mean of the rows from floor(i H / n) to below ceil((i + 1) H / n).

    Args:
        output_size: Rows and columns of the output, or one number for both; None keeps the
            input's size.

    Shape:
        (N, C, H, W) -> (N, C, *output_size).
    """

    def __init__(self, output_size: int | None | tuple[int | None, int | None]) -> None:
        """Keep the size."""
        super().__init__()
        if not isinstance(output_size, tuple):
            output_size = (output_size, output_size)
        self.rows, self.columns = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Average: (N, C, H, W) -> (N, C, rows, columns)."""
        if self.rows is not None:
            x = _means(x.shape[-2], self.rows, x) @ x
        if self.columns is not None:
            x = x @ _means(x.shape[-1], self.columns, x).t()
        return x


def _means(length: int, count: int, like: Tensor) -> Tensor:
    """Return the matrix (count, length) that averages a line of pixels into `count` cells."""
    cell = torch.arange(count, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)
    start = cell * length // count
    end = ((cell + 1) * length + count - 1) // count
    inside = (place >= start) & (place < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)
