"""Deformable convolutions, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)
from references import naive_deform
from torch.nn.functional import conv2d

# stride, padding, dilation, groups, deformable groups
GEOMETRIES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2), (2, 0, 1, 2, 4)]


def tensors(geometry, device="cpu", dtype=torch.float64, batch=2):
    """Input, offset, mask, weight and bias; some offsets reach outside."""
    stride, padding, dilation, groups, deform_groups = geometry
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    height, width = ((n + 2 * padding - 2 * dilation - 1) // stride + 1 for n in (5, 6))
    return (
        random(batch, 4, 5, 6),
        random(batch, 18 * deform_groups, height, width) * 2,
        random(batch, 9 * deform_groups, height, width).sigmoid(),
        random(4, 4 // groups, 3, 3),
        random(4),
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_deform_conv_against_loop(device, geometry):
    x, offset, _, weight, _ = tensors(geometry, device)
    out = deform_conv2d(x, offset, weight, *geometry)
    wanted = naive_deform.deform_conv(
        x.cpu().numpy(), offset.cpu().numpy(), weight.cpu().numpy(), *geometry
    )
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-10)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_modulated_deform_conv_against_loop(device, geometry, with_bias):
    x, offset, mask, weight, bias = tensors(geometry, device)
    out = modulated_deform_conv2d(x, offset, mask, weight, bias if with_bias else None, *geometry)
    wanted = naive_deform.deform_conv(
        *(t.cpu().numpy() for t in (x, offset, weight)), *geometry, mask.cpu().numpy()
    )
    if with_bias:
        wanted = wanted + bias.cpu().numpy()[:, None, None]
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-10)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_deform_conv_gradient(device, geometry):
    x, offset, _, weight, _ = (t.requires_grad_() for t in tensors(geometry, device, batch=1))
    assert torch.autograd.gradcheck(
        lambda *t: deform_conv2d(*t, *geometry), (x, offset, weight), nondet_tol=1e-10
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_modulated_deform_conv_gradient(device, geometry):
    inputs = tuple(t.requires_grad_() for t in tensors(geometry, device, batch=1))
    assert torch.autograd.gradcheck(
        lambda *t: modulated_deform_conv2d(*t, *geometry), inputs, nondet_tol=1e-10
    )


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_deform_conv_gradient_of_one_input(wanted):
    geometry = GEOMETRIES[0]
    x, offset, _, weight, _ = tensors(geometry)
    inputs = [t.requires_grad_(need) for t, need in zip((x, offset, weight), wanted, strict=True)]
    deform_conv2d(*inputs, *geometry).square().sum().backward()
    everything = [t.detach().clone().requires_grad_() for t in inputs]
    deform_conv2d(*everything, *geometry).square().sum().backward()
    for one, all_, need in zip(inputs, everything, wanted, strict=True):
        assert (one.grad is not None) == need
        assert not need or torch.allclose(one.grad, all_.grad)


def test_without_offset_it_is_a_convolution():
    x = torch.randn(2, 4, 6, 5)
    layer = DeformConv2d(4, 6, 3, padding=1, groups=2)
    out = layer(x, torch.zeros(2, 18, 6, 5))
    torch.testing.assert_close(out, conv2d(x, layer.weight, padding=1, groups=2))
    layer = ModulatedDeformConv2d(4, 6, 3, padding=1)
    out = layer(x, torch.zeros(2, 18, 6, 5), torch.full((2, 9, 6, 5), 0.5))
    torch.testing.assert_close(out, conv2d(x, layer.weight, padding=1) * 0.5)


def test_offset_of_a_larger_map_is_read_flat(device):
    """As mmcv's compiled operator does, and as DyHead needs."""
    x, _, _, weight, bias = tensors(GEOMETRIES[0], device)
    large = torch.randn(2, 27, 8, 9, dtype=torch.float64, device=device)
    offset, mask = large[:, :18], large[:, 18:].sigmoid()
    flat_offset = offset.flatten(1)[:, : 18 * 30].reshape(2, 18, 5, 6)
    flat_mask = mask.flatten(1)[:, : 9 * 30].reshape(2, 9, 5, 6)
    out = modulated_deform_conv2d(x, offset, mask, weight, bias, *GEOMETRIES[0])
    wanted = modulated_deform_conv2d(x, flat_offset, flat_mask, weight, bias, *GEOMETRIES[0])
    assert torch.equal(out, wanted)
    assert torch.autograd.gradcheck(
        lambda *t: modulated_deform_conv2d(x, *t, weight, bias, *GEOMETRIES[0]),
        (offset.requires_grad_(), mask.requires_grad_()),
        nondet_tol=1e-10,
    )


def test_offset_of_a_smaller_map_is_an_error():
    x, offset, mask, weight, bias = tensors(GEOMETRIES[0])
    with pytest.raises(RuntimeError, match="offset output dims"):
        modulated_deform_conv2d(x, offset[..., 1:], mask, weight, bias, *GEOMETRIES[0])


@pytest.mark.parametrize("pack", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_packs_train(device, pack):
    torch.manual_seed(0)
    layer = pack(4, 4, 3, padding=1, deform_groups=2).to(device)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 6, 5, device=device, requires_grad=True)
    layer(x).square().mean().backward()
    for name, parameter in [("x", x), *layer.named_parameters()]:
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(device, dtype):
    inputs = [t.requires_grad_() for t in tensors(GEOMETRIES[2], device, dtype)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    out = modulated_deform_conv2d(*inputs, *GEOMETRIES[2])
    wanted = modulated_deform_conv2d(*exact, *GEOMETRIES[2])
    out.sum().backward()
    wanted.sum().backward()
    close = dict(rtol=40 * torch.finfo(dtype).eps, atol=40 * torch.finfo(dtype).eps)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), wanted, **close)
    for found, reference in zip(inputs, exact, strict=True):
        torch.testing.assert_close(found.grad.double(), reference.grad, **close)


def test_im2col_step_changes_nothing():
    x, offset, _, weight, _ = tensors(GEOMETRIES[0], batch=4)
    whole = deform_conv2d(x, offset, weight, *GEOMETRIES[0], False, 32)
    assert torch.equal(whole, deform_conv2d(x, offset, weight, *GEOMETRIES[0], False, 2))


def test_gradients_of_mmcv_where_samples_lie_at_the_border():
    """The values that mmcv's own test of its compiled operator expects; some samples lie at -1."""
    layer = DeformConv2dPack(1, 1, 2, stride=1, padding=0)
    weights = [0.1, 0.4, 0.6, 0.1, 0.3, 0.2, 0.1, 0.3, 0.5, 0.5, 0.2, 0.8, 0.8, 0.3, 0.9, 0.1]
    weights += [0.3, 0.1, 0.2, 0.5, 0.3, 0.7, 0.5, 0.3, 0.6, 0.2, 0.5, 0.3, 0.4, 0.1, 0.8, 0.4]
    biases = [0.7, 0.1, 0.8, 0.5, 0.6, 0.5, 0.4, 0.7]
    with torch.no_grad():
        layer.conv_offset.weight.copy_(torch.tensor(weights).view(8, 1, 2, 2))
        layer.conv_offset.bias.copy_(torch.tensor(biases))
        layer.weight.copy_(torch.tensor([0.4, 0.2, 0.1, 0.9]).view(1, 1, 2, 2))
    x = torch.tensor([[[[1.0, 2, 3], [0, 1, 2], [3, 5, 2]]]], requires_grad=True)
    out = layer(x)
    out.sum().backward()
    close = dict(rtol=0, atol=1e-3)
    torch.testing.assert_close(out[0, 0], torch.tensor([[1.65, 0], [0, 0]]), **close)
    wanted = [[-0.666, 0.204, 0], [0.03, -0.416, 0.012], [0, 0.252, 0.129]]
    torch.testing.assert_close(x.grad[0, 0], torch.tensor(wanted), **close)
    wanted = [1.44, -0.72, 0, 0, -0.1, -0.08, -0.54, -0.54]
    torch.testing.assert_close(layer.conv_offset.bias.grad, torch.tensor(wanted), **close)
    corner = torch.tensor([[1.0, 2], [0, 1]])
    wanted = torch.stack([value * corner for value in wanted])[:, None]
    torch.testing.assert_close(layer.conv_offset.weight.grad, wanted, **close)
    wanted = torch.tensor([[[[3.62, 0], [0.4, 0.18]]]])
    torch.testing.assert_close(layer.weight.grad, wanted, **close)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_offset_gradient_at_the_border_is_zero_and_elsewhere_as_nearby(geometry, shift):
    """At exactly -1 it is zero; beside it, that of an offset a little smaller or larger."""
    stride, padding, dilation, _, deform_groups = geometry
    x, offset, mask, weight, bias = tensors(geometry)

    def gradient(offset):
        offset = offset.clone().requires_grad_()
        modulated_deform_conv2d(x, offset, mask, weight, bias, *geometry).sum().backward()
        return offset.grad

    whole = torch.full_like(offset, shift)
    found = gradient(whole).view(2, deform_groups, 3, 3, 2, *offset.shape[2:])
    outside = gradient(whole - 1e-6).view_as(found)
    inside = gradient(whole + 1e-6).view_as(found)
    for tap in range(3):
        for place in range(offset.shape[2]):
            y = place * stride - padding + tap * dilation + shift
            wanted = torch.zeros(()) if y == -1 else inside[:, :, tap, :, 0, place]
            columns = [
                column
                for column in range(offset.shape[3])
                if all(column * stride - padding + v * dilation + shift != -1 for v in range(3))
            ]
            got = found[:, :, tap, :, 0, place][..., columns]
            if y == -1:
                assert not got.any() and not outside[:, :, tap, :, 0, place][..., columns].any()
            else:
                torch.testing.assert_close(got, wanted[..., columns], rtol=0, atol=1e-4)
