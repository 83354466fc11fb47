"""PSAMask, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops import PSAMask
from references import naive_psa

# Masks smaller and larger than the map, of even sides too.
SIZES = [(3, 3), (5, 3), (7, 9), (4, 2), (1, 1)]


def make_input(size, device="cpu", dtype=torch.float64, batch=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, size[0] * size[1], 4, 5, generator=generator, dtype=torch.float64)
    return x.to(device, dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_against_loop(device, kind, size):
    x = make_input(size, device)
    out = PSAMask(kind, size)(x)
    np.testing.assert_array_equal(out.cpu(), naive_psa.psa_mask(x.cpu().numpy(), kind, size))


@pytest.mark.parametrize("kind", ["collect", "distribute"])
def test_gradient(device, kind):
    x = make_input((3, 5), device, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(PSAMask(kind, (3, 5)), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes_and_no_images(device, dtype):
    x = make_input((3, 3), device, dtype).requires_grad_()
    out = PSAMask("collect", (3, 3))(x)
    assert out.dtype == dtype and out.abs().sum() > 0
    out.sum().backward()
    assert x.grad.dtype == dtype and {*x.grad.unique().tolist()} == {0.0, 1.0}
    assert PSAMask("distribute", (3, 3))(x[:0]).shape == (0, 20, 4, 5)


def test_the_head_of_mmseg_trains():
    from mmseg.registry import MODELS

    head = MODELS.build(
        dict(
            type="mmseg.PSAHead",
            in_channels=4,
            channels=2,
            num_classes=3,
            mask_size=(5, 5),
            psa_type="bi-direction",
            norm_cfg=dict(type="BN"),
        )
    )
    out = head([make_input((2, 2), dtype=torch.float32)])
    out.square().mean().backward()
    assert out.shape[1] == 3
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
    assert head.attention[-1].weight.grad.abs().sum() > 0
