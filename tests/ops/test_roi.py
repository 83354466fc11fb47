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

from hordet.ops import roi, roi_gradient

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


def draw_regions(count, generator):
    """Regions of all sizes, some of them beyond a map of 30 x 40 cells of 4 pixels."""
    center = torch.rand(count, 2, generator=generator) * torch.tensor([180.0, 140.0]) - 10
    sides = torch.exp(torch.rand(count, 2, generator=generator) * 6)
    image = torch.randint(0, 2, (count, 1), generator=generator).float()
    return torch.cat([image, center - sides / 2, center + sides / 2], dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align_gradient_against_torchvision(monkeypatch, sampling, aligned, dtype):
    """Products of matrices give the numbers of the kernel, in groups of one region, too."""
    generator = torch.Generator().manual_seed(sampling)
    rois = torch.cat([torch.tensor(ROIS), draw_regions(200, generator)]).to(dtype)
    grad = torch.randn(len(rois), 5, 2, 3, generator=generator).to(dtype)
    inputs = grad, rois, torch.Size([2, 5, 30, 40]), 0.25, sampling, aligned
    wanted = roi._call_kernel(*inputs)
    assert wanted.abs().max() > 1
    close = 1e-12 if dtype == torch.float64 else 1e-5
    for size in (roi_gradient._GROUP_SIZE, 1):
        monkeypatch.setattr(roi_gradient, "_GROUP_SIZE", size)
        got = roi_gradient.differentiate_roi_align(*inputs)
        torch.testing.assert_close(got, wanted, rtol=close, atol=close * float(wanted.abs().max()))


def test_groups_hold_each_region_once_and_few_cells_that_are_not_its_own():
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.randint(1, 30, (2, 500), generator=generator)
    groups = list(roi_gradient._group_regions(rows, columns, 64))
    assert sorted(torch.cat(groups).tolist()) == list(range(500))
    for group in groups:
        assert rows[group].max() <= 2 * rows[group].min()
        assert columns[group].max() <= 2 * columns[group].min()
        largest = int(rows[group].max() * columns[group].max()) * 64
        assert len(group) == 1 or len(group) * largest <= roi_gradient._GROUP_SIZE
    assert len(groups) < 120


@pytest.mark.parametrize("deterministic", [False, True])
def test_gpus_take_products_where_sums_must_have_an_order(monkeypatch, deterministic):
    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    used = []
    for name in ("differentiate_roi_align", "_call_kernel"):
        monkeypatch.setattr(
            roi,
            name,
            lambda grad, rois, shape, *_, name=name: used.append(name) or torch.ones(shape),
        )
    gradient = torch.zeros(2, 3, 7, 10)
    grad = torch.zeros(6, 3, 2, 2).as_subclass(OnGpu)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        roi.roi_align_backward(
            grad, torch.tensor(ROIS), None, None, gradient, 2, 2, 0.5, 0, 1, True
        )
    finally:
        torch.use_deterministic_algorithms(before)
    assert used == ["differentiate_roi_align" if deterministic else "_call_kernel"]
    assert (gradient == 1).all()


def test_roi_align_gradient_is_the_same_each_time():
    rois = draw_regions(50, torch.Generator().manual_seed(0))
    gradients = []
    before = torch.get_num_threads()
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        x = torch.ones(2, 3, 30, 40).requires_grad_()
        roi_align(x, rois, (2, 3), 0.25, 0, "avg", True).square().sum().backward()
        gradients.append(x.grad)
    torch.set_num_threads(before)
    assert gradients[0].abs().sum() > 1
    torch.testing.assert_close(gradients[1], gradients[0])
    assert torch.equal(gradients[2], gradients[1])


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
