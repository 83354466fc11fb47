"""The depthwise convolution against torch's own, forward, backward and twice backward."""

import pytest
import torch
from torch import nn

from hordet.layers import DepthwiseConv2d

SHAPES = [(1, 8, 1, 1), (2, 8, 5, 9), (3, 16, 20, 13), (1, 32, 64, 70)]


def pair(channels, kernel_size, bias=True, dtype=torch.float32):
    """The layer and torch's own, with the same parameters."""
    ours = DepthwiseConv2d(channels, kernel_size, bias).to(dtype)
    stock = nn.Conv2d(
        channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=bias
    ).to(dtype)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


def gradients(layer, x, cotangent):
    x = x.detach().requires_grad_()
    out = layer(x)
    out.backward(cotangent.to(out.dtype))
    return [out, x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel_size", [3, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch(shape, kernel_size, bias, layout):
    torch.manual_seed(0)
    ours, stock = pair(shape[1], kernel_size, bias)
    x, cotangent = torch.randn(2, *shape).unbind()
    x = x.to(memory_format=layout)
    for got, want in zip(
        gradients(ours, x, cotangent), gradients(stock, x, cotangent), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())


def test_differentiates_twice():
    layer = DepthwiseConv2d(4, 3).double()
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64, requires_grad=True)

    def call(x, weight, bias):
        return torch.func.functional_call(layer, dict(weight=weight, bias=bias), (x,))

    arguments = (x, layer.weight, layer.bias)
    assert torch.autograd.gradcheck(call, arguments)
    assert torch.autograd.gradgradcheck(call, arguments)


def test_autocast_computes_in_bfloat16():
    torch.manual_seed(0)
    ours, stock = pair(16, 7)
    x, cotangent = torch.randn(2, 2, 16, 12, 11).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        got, want = gradients(ours, x, cotangent), gradients(stock, x, cotangent)
    assert got[0].dtype == torch.bfloat16 and got[2].dtype == torch.float32
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=0.02, atol=0.1)


def test_frozen_kernel_passes_the_gradient_on():
    layer = DepthwiseConv2d(4, 7)
    layer.weight.requires_grad_(False)
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad.abs().sum() > 0


def test_empty_batch():
    layer = DepthwiseConv2d(4, 7)
    layer(torch.randn(0, 4, 9, 9)).sum().backward()
    assert not layer.weight.grad.any()


def test_even_kernel_is_an_error():
    with pytest.raises(ValueError, match="5 or 7"):
        DepthwiseConv2d(4, 6)
