"""Multi-scale deformable attention, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
)
from references import naive_deform

from hordet.ops.attention import ms_deform_attn_forward

SHAPES = [(3, 4), (2, 2)]


def tensors(device="cpu", dtype=torch.float64, queries=5):
    """Value, locations and weights: 2 images, 2 heads of 3, 2 levels, 2 points."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 16, 2, 3, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, queries, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, queries, 2, 2, 2, generator=generator, dtype=torch.float64)
    return [t.to(device, dtype) for t in (value, locations * 1.4 - 0.2, weights)]


def attend(value, locations, weights):
    """What mmcv's layer calls on a GPU."""
    shapes = torch.tensor(SHAPES, device=value.device)
    starts = torch.tensor([0, 12], device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


def test_against_loop(device):
    inputs = tensors(device)
    wanted = naive_deform.multi_scale_attention(
        inputs[0].cpu().numpy(), SHAPES, *(t.cpu().numpy() for t in inputs[1:])
    )
    np.testing.assert_allclose(attend(*inputs).cpu(), wanted, atol=1e-12)


def test_gradient(device):
    inputs = tuple(t.requires_grad_() for t in tensors(device))
    assert torch.autograd.gradcheck(attend, inputs, nondet_tol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(device, dtype):
    inputs = [t.requires_grad_() for t in tensors(device, dtype)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    out, wanted = attend(*inputs), attend(*exact)
    out.sum().backward()
    wanted.sum().backward()
    assert out.dtype == dtype
    close = dict(rtol=16 * torch.finfo(dtype).eps, atol=16 * torch.finfo(dtype).eps)
    torch.testing.assert_close(out.double(), wanted, **close)
    for found, reference in zip(inputs, exact, strict=True):
        torch.testing.assert_close(found.grad.double(), reference.grad, **close)


def test_locations_are_not_rounded_to_the_dtype_of_the_values():
    """bfloat16 has 8 bits: at x near 1 its steps are half a pixel of a map of width 128."""
    value = torch.tensor([-1.0, 1.0]).repeat(64).view(1, 128, 1, 1).bfloat16()  # by column
    locations = torch.rand(1, 50, 1, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    locations[..., 1] = 0.5
    shapes, weights = torch.tensor([[1, 128]]), torch.ones(1, 50, 1, 1, 1).bfloat16()
    starts = torch.tensor([0])
    found, exact = (
        ms_deform_attn_forward(v, shapes, starts, locations, weights.to(v.dtype), 64).float()
        for v in (value, value.float())
    )
    assert (found - exact).abs().max() < 2 / 2**8  # of the output's own rounding


def test_no_queries(device):
    inputs = [t.requires_grad_() for t in tensors(device, queries=0)]
    out = attend(*inputs)
    out.sum().backward()
    assert out.shape == (2, 0, 6) and (inputs[0].grad == 0).all()


def test_layer_trains(device):
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(8, 2, 2, 2, dropout=0.0, batch_first=True).to(device)
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.1)
    torch.nn.init.normal_(layer.attention_weights.weight, std=0.1)
    value = torch.randn(2, 16, 8, device=device, requires_grad=True)
    out = layer(
        torch.randn(2, 5, 8, device=device),
        value=value,
        reference_points=torch.rand(2, 5, 2, 2, device=device),
        spatial_shapes=torch.tensor(SHAPES, device=device),
        level_start_index=torch.tensor([0, 12], device=device),
    )
    out.square().mean().backward()
    for name, parameter in [("value", value), *layer.named_parameters()]:
        assert parameter.grad.abs().sum() > 0, name
