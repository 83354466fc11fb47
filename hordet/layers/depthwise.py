"""Depthwise convolution whose weight gradient is fast on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hordet.layers.layout import to_nchw


class _SameDepthwise(torch.autograd.Function):
    """Depthwise convolution of stride 1 that keeps the size; both gradients are convolutions.

    PyTorch's own weight gradient on a CPU takes ten to thirty times as long as its forward pass.
    The same sum over pixels, dL/dw[c, i, j] = sum_nhw g[n, c, h, w] x[n, c, h + i - p, w + j - p],
    is a depthwise convolution of x with g as its kernel, for which the forward kernel is used.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[no-untyped-def]
        """Convolve: (N, C, H, W), (C, 1, k, k), (C,) -> (N, C, H, W)."""
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        """Differentiate; made of differentiable operators, so that it works twice."""
        x, weight = ctx.saved_tensors
        (batch, channels, height, width), kernel = x.shape, weight.shape[-1]
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = F.conv2d(grad, weight.flip(2, 3), padding=kernel // 2, groups=channels)
        if ctx.needs_input_grad[1]:
            grad_weight = F.conv2d(
                to_nchw(x).view(1, batch * channels, height, width),
                to_nchw(grad).view(batch * channels, 1, height, width),
                padding=kernel // 2,
                groups=batch * channels,
            )
            grad_weight = grad_weight.view(batch, channels, 1, kernel, kernel).sum(0)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(channels, channels, kernel_size, groups=channels)` that keeps the size.

    The same parameters and numbers; where a CPU trains it, it has a weight gradient of its own
    (ten times as fast at 7x7, more on larger maps). Elsewhere it is `nn.Conv2d`.

    Args:
        channels: C of input and output.
        kernel_size: Odd size k of the kernel.
        bias: Whether to add one number a channel.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ValueError: An even kernel size, which cannot keep the size of the map.
    """

    def __init__(self, channels: int, kernel_size: int, bias: bool = True) -> None:
        """Create the parameters as `nn.Conv2d` does."""
        if kernel_size % 2 == 0:
            raise ValueError(
                f"got kernel_size={kernel_size}; an even kernel would shift the map: use "
                f"{kernel_size - 1} or {kernel_size + 1}."
            )
        super().__init__(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=bias
        )

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Convolve, times a factor: (N, C, H, W) -> (N, C, H, W)."""
        weight, bias = self.weight, self.bias
        if scale != 1:  # on the weights, which are small beside the map
            weight, bias = weight * scale, bias if bias is None else bias * scale
        trains = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not trains or x.device.type != "cpu" or not x.numel() or torch.jit.is_tracing():
            return self._conv_forward(x, weight, bias)
        if torch.is_autocast_enabled("cpu"):
            # Here, so that forward and backward see one dtype.
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
            bias = bias if bias is None else bias.to(dtype)
        return _SameDepthwise.apply(x, weight, bias)
