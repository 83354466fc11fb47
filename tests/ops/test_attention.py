"""Multi-scale deformable attention, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
)
from references import naive_deform

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
