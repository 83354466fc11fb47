"""CARAFE and masked convolution, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops import CARAFEPack, MaskedConv2d, carafe, carafe_naive
from references import naive_deform
from torch.nn.functional import conv2d, pad


def tensors(device="cpu", dtype=torch.float64, batch=2):
    """Features and masks: 4 channels in 2 groups, kernel 3, twice as large."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, 4, 3, 4, generator=generator, dtype=torch.float64)
    masks = torch.randn(batch, 18, 6, 8, generator=generator, dtype=torch.float64)
    return [t.to(device, dtype) for t in (features, masks)]


@pytest.mark.parametrize("operator", [carafe, carafe_naive])
def test_carafe_against_loop(device, operator):
    features, masks = tensors(device)
    wanted = naive_deform.carafe(features.cpu().numpy(), masks.cpu().numpy(), 3, 2, 2)
    np.testing.assert_allclose(operator(features, masks, 3, 2, 2).cpu(), wanted, atol=1e-12)


def test_carafe_gradient(device):
    inputs = tuple(t.requires_grad_() for t in tensors(device))
    assert torch.autograd.gradcheck(lambda *t: carafe(*t, 3, 2, 2), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_carafe_dtypes(device, dtype):
    inputs = tensors(device, dtype)
    wanted = carafe(*(t.double() for t in inputs), 3, 2, 2)
    out = carafe(*inputs, 3, 2, 2)
    assert out.dtype == dtype
    close = dict(rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)
    torch.testing.assert_close(out.double(), wanted, **close)


def test_carafe_of_no_images(device):
    inputs = [t.requires_grad_() for t in tensors(device, batch=0)]
    carafe(*inputs, 3, 2, 2).sum().backward()
    assert all(t.grad.shape == t.shape for t in inputs)


def test_carafe_pack_trains(device):
    torch.manual_seed(0)
    layer = CARAFEPack(4, 2, compressed_channels=3).to(device)
    x = torch.randn(1, 4, 5, 6, device=device)
    out = layer(x)
    out.square().mean().backward()
    assert out.shape == (1, 4, 10, 12)
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_convolution(device, dtype, padding):
    torch.manual_seed(0)
    layer = MaskedConv2d(3, 5, 3, padding=padding).to(device, dtype)
    x = torch.randn(1, 3, 6, 7, device=device, dtype=dtype)
    mask = torch.rand(1, 6, 7, device=device) > 0.5
    wanted = conv2d(x, layer.weight, layer.bias, padding=padding)
    wanted = wanted * pad(mask, (0, 2 * padding - 2, 0, 2 * padding - 2))
    with torch.no_grad():
        out = layer(x, mask)
        nothing = layer(x, torch.zeros_like(mask))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out, wanted.detach(), rtol=8 * eps, atol=8 * eps)
    assert (nothing == 0).all() and (out != 0).any()
