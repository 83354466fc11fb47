"""RoIAlign, RoIPool and deformable RoI pooling, through mmcv.ops."""

import numpy as np
import pytest
import torch
from mmcv.ops import (
    ModulatedDeformRoIPoolPack,
    RoIAlign,
    RoIPool,
    deform_roi_pool,
    roi_align,
    roi_pool,
)
from references import naive_roi

from hordet.ops import roi

# Inside, larger than the image, partly and wholly outside, of no size; two images.
ROIS = [
    [0, 1.3, 2.1, 9.7, 8.4],
    [1, 0, 0, 19, 13],
    [1, -4, -6, 5, 3.5],
    [0, 14.2, 6.1, 40, 30],
    [0, 60, 60, 70, 70],
    [1, 5, 5, 5, 5],
]


def features(dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 7, 10, generator=generator, dtype=torch.float64).to(device, dtype)


def test_roi_align_example():
    x = torch.tensor([[[[1.0, 2], [3, 4]]]])
    out = RoIAlign(2, 1.0, 2)(x, torch.tensor([[0.0, 0, 0, 1, 1]]))
    np.testing.assert_allclose(out[0, 0], [[1, 1.25], [1.5, 1.75]])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
def test_roi_align_against_loop(device, size, sampling, aligned):
    x, rois = features(device=device), torch.tensor(ROIS, dtype=torch.float64, device=device)
    out = RoIAlign(size, 0.5, sampling, aligned=aligned)(x, rois)
    wanted = naive_roi.roi_align(x.cpu().numpy(), ROIS, size, 0.5, sampling, aligned)
    assert np.abs(wanted).sum() > 1
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-12)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align_gradient(device, sampling, aligned):
    x = features(device=device).requires_grad_()
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, rois, (2, 3), 0.5, sampling, "avg", aligned),
        (x,),
        nondet_tol=1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align_gradient_in_a_fixed_order(monkeypatch, sampling, aligned, dtype):
    """What a GPU runs under deterministic=True gives the kernel's numbers."""
    x, rois = features(dtype).requires_grad_(), torch.tensor(ROIS, dtype=dtype)
    out = roi_align(x, rois, (2, 3), 0.5, sampling, "avg", aligned)
    grad = torch.linspace(-1, 1, out.numel(), dtype=dtype).view(out.shape)
    (wanted,) = torch.autograd.grad(out, x, grad, retain_graph=True)
    used = []
    in_order = roi.differentiate_in_order

    def spy(*args):
        used.append(1)
        return in_order(*args)

    monkeypatch.setattr(roi, "differentiate_in_order", spy)
    monkeypatch.setattr(roi, "_adds_in_order", lambda x: True)
    (got,) = torch.autograd.grad(out, x, grad)
    assert used and wanted.abs().sum() > 1
    close = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(got, wanted, rtol=close, atol=close)
    again = roi_align(x, rois, (2, 3), 0.5, sampling, "avg", aligned)
    assert torch.equal(again, out)


def test_the_fixed_order_is_taken_where_the_kernel_has_none():
    class OnCuda:
        device = torch.device("cuda")

    torch.use_deterministic_algorithms(True)
    try:
        assert roi._adds_in_order(OnCuda()) and not roi._adds_in_order(torch.ones(1))
    finally:
        torch.use_deterministic_algorithms(False)
    assert not roi._adds_in_order(OnCuda())


def test_roi_align_gradient_over_threads():
    gradients = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):  # as many, fewer and more than channels
        torch.set_num_threads(threads)
        x = features(torch.float32).requires_grad_()
        roi_align(x, torch.tensor(ROIS), (2, 3), 0.5, 0, "avg", True).square().sum().backward()
        gradients.append(x.grad)
    torch.set_num_threads(before)
    assert gradients[0].abs().sum() > 1
    assert torch.equal(gradients[1], gradients[0]) and torch.equal(gradients[2], gradients[0])


def test_roi_pool_example():
    x = torch.tensor([[[[1.0, 2], [3, 4]]]])
    out = RoIPool(2, 1.0)(x, torch.tensor([[0.0, 0, 0, 1, 1]]))
    assert out.tolist() == [[[[1, 2], [3, 4]]]]


@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
def test_roi_pool_against_loop(device, size):
    rois = [*ROIS, [0, 5, 5, 3.5, 3.5]]  # the last ends before it starts
    x = features(device=device)
    out = RoIPool(size, 0.5)(x, torch.tensor(rois, dtype=torch.float64, device=device))
    wanted = naive_roi.roi_pool(x.cpu().numpy(), rois, size, 0.5)
    assert (wanted[-1] == 0).all() and (wanted[0] != 0).all()
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-12)


def test_roi_pool_gradient(device):
    x = features(device=device).requires_grad_()
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, rois, (2, 3), 0.5), (x,))


POOLS = [
    lambda x, rois: roi_align(x, rois, 2, 0.5),
    lambda x, rois: roi_pool(x, rois, 2, 0.5),
    lambda x, rois: roi_align(x, rois, 2, 0.5, 2, "max", True),
    lambda x, rois: deform_roi_pool(x, rois, None, 2, 0.5, 2),
]


@pytest.mark.parametrize("pool", POOLS, ids=["align", "pool", "max", "deform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(device, dtype, pool):
    x = features(dtype, device).requires_grad_()
    rois = torch.tensor(ROIS, device=device).round()
    exact = x.detach().double().requires_grad_()
    out, wanted = pool(x, rois.to(dtype)), pool(exact, rois.double())
    out.sum().backward()
    wanted.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    close = dict(rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
    torch.testing.assert_close(out.double(), wanted, **close)
    torch.testing.assert_close(x.grad.double(), exact.grad, **close)


@pytest.mark.parametrize("pool", POOLS, ids=["align", "pool", "max", "deform"])
def test_no_regions(device, pool):
    x = features(torch.float32, device).requires_grad_()
    out = pool(x, torch.zeros(0, 5, device=device))
    assert out.shape == (0, 3, 2, 2)
    out.sum().backward()
    assert x.grad.shape == x.shape and (x.grad == 0).all()


@pytest.mark.parametrize("pool", POOLS, ids=["align", "pool", "max", "deform"])
def test_no_images(device, pool):
    x = torch.zeros(0, 3, 7, 10, device=device, requires_grad=True)
    out = pool(x, torch.zeros(0, 5, device=device))
    out.sum().backward()
    assert out.shape == (0, 3, 2, 2) and x.grad.shape == x.shape


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_maximum_against_loop(device, sampling, aligned):
    x = features(device=device)
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    out = roi_align(x, rois, (2, 3), 0.5, sampling, "max", aligned)
    wanted = naive_roi.roi_align(x.cpu().numpy(), ROIS, (2, 3), 0.5, sampling, aligned, "max")
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-12)
    assert (wanted[0] != 0).all()


@pytest.mark.parametrize("sampling", [0, 2])
def test_gradient_of_the_maximum(device, sampling):
    x = features(device=device).requires_grad_()
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, rois, (2, 3), 0.5, sampling, "max", True), (x,)
    )


def make_offset(dtype=torch.float64, device="cpu", scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(len(ROIS), 2, 2, 3, generator=generator) * scale).to(device, dtype)


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("moved", [True, False])
def test_deform_roi_pool_against_loop(device, sampling, moved):
    x, offset = features(device=device), make_offset(device=device) if moved else None
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    out = deform_roi_pool(x, rois, offset, (2, 3), 0.5, sampling, 0.2)
    wanted = naive_roi.roi_align(
        x.cpu().numpy(),
        ROIS,
        (2, 3),
        0.5,
        sampling,
        True,
        offset=offset.cpu().numpy() if moved else None,
        gamma=0.2,
    )
    np.testing.assert_allclose(out.cpu(), wanted, atol=1e-6 if moved else 1e-12)
    if not moved:
        torch.testing.assert_close(out, roi_align(x, rois, (2, 3), 0.5, sampling, "avg", True))


def test_gradient_of_deform_roi_pool(device):
    x, offset = features(device=device).requires_grad_(), make_offset(device=device, scale=0.3)
    rois = torch.tensor(ROIS[:4], dtype=torch.float64, device=device)
    offset = offset[:4].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, offset: deform_roi_pool(x, rois, offset, (2, 3), 0.5, 2, 0.1), (x, offset)
    )


def test_a_pack_of_deform_roi_pool_trains():
    pool = ModulatedDeformRoIPoolPack(2, 3, deform_fc_channels=8, spatial_scale=0.5)
    x = features(torch.float32).requires_grad_()
    out = pool(x, torch.tensor(ROIS))
    out.square().sum().backward()
    assert out.shape == (6, 3, 2, 2) and x.grad.abs().sum() > 0
    # Its offsets begin at 0, and only their last layer learns at first.
    assert pool.offset_fc[-1].weight.grad.abs().sum() > 0
