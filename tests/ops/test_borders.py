"""Every operator where it is easily wrong: at borders, at zero offsets, of nothing, in half types.

Gradients are compared with numerical ones, at coordinates on both sides of each border; exactly on
it, where a derivative has two sides, with those of mmcv's kernels.
"""

import pytest
import torch
from mmcv.ops import (
    carafe,
    deform_conv2d,
    deform_roi_pool,
    modulated_deform_conv2d,
    roi_align,
    roi_pool,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from mmcv.ops.psa_mask import psa_mask

HALF = [torch.float16, torch.bfloat16]


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


# Regions whose samples lie a little inside and outside of each border of a 5 x 6 map.
NEAR = torch.tensor(
    [
        [0.0, -1.4, -1.3, 2.2, 2.1],
        [0, -0.7, -0.6, 6.4, 5.3],
        [0, 3.1, 2.2, 6.7, 5.6],
        [0, -2.6, 1.2, -1.2, 3.1],
        [0, 1.1, 4.6, 3.2, 7.7],
    ],
    dtype=torch.float64,
)


def attend(value, locations, weights):
    shapes, starts = torch.tensor([[5, 6]]), torch.tensor([0])
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


def place(pixels):
    """Locations (1, 1, 1, 1, points, 2) of points given in pixels (x, y) of the 5 x 6 map."""
    sizes = torch.tensor([6.0, 5.0], dtype=torch.float64)
    return ((torch.tensor(pixels, dtype=torch.float64) + 0.5) / sizes)[None, None, None, None]


BORDERS = [[-1.2, 2.3], [-0.8, -0.7], [5.2, 4.3], [5.8, 4.7], [2.2, -1.3], [0.3, 5.3]]
CASES = {
    "mean of RoIAlign": (lambda x: roi_align(x, NEAR, 2, 1.0, 2, "avg", True), (1, 2, 5, 6)),
    "old RoIAlign": (lambda x: roi_align(x, NEAR, 2, 1.0, 0, "avg", False), (1, 2, 5, 6)),
    "maximum of RoIAlign": (lambda x: roi_align(x, NEAR, 2, 1.0, 2, "max", True), (1, 2, 5, 6)),
    "RoIPool": (lambda x: roi_pool(x, NEAR, 2, 1.0), (1, 2, 5, 6)),
    "deformable RoI pooling": (lambda x: deform_roi_pool(x, NEAR, None, 2, 1.0, 2), (1, 2, 5, 6)),
    "offsets of deformable RoI pooling": (
        lambda offset: deform_roi_pool(draw(1, 2, 5, 6), NEAR, offset, 2, 1.0, 2),
        (5, 2, 2, 2),
    ),
    "PSA masks": (lambda x: psa_mask(x, 1, (3, 5)), (1, 15, 2, 4)),
    "CARAFE": (
        lambda x: carafe(x, draw(1, 9, 6, 8, seed=1).softmax(1), 3, 1, 2),
        (1, 2, 3, 4),
    ),
    "attention, values": (
        lambda v: attend(v, place(BORDERS), draw(1, 1, 1, 1, 6, seed=2)),
        (1, 30, 1, 2),
    ),
    "sigmoid focal loss": (
        lambda x: sigmoid_focal_loss(x, torch.tensor([0, 2, 3]), 2.0, 0.25, None, "sum"),
        (3, 3),
    ),
    "softmax focal loss": (
        lambda x: softmax_focal_loss(x, torch.tensor([0, 2, 1]), 2.0, 0.25, None, "sum"),
        (3, 3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_numerical_ones(name):
    function, shape = CASES[name]
    x = draw(*shape, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(function, (x,), nondet_tol=1e-12)


def test_gradients_of_locations_on_both_sides_of_a_border():
    value, weights = draw(1, 30, 1, 2), draw(1, 1, 1, 1, 6, seed=2)
    locations = place(BORDERS).requires_grad_()
    assert torch.autograd.gradcheck(lambda at: attend(value, at, weights), (locations,))


def test_a_sample_at_exactly_minus_one_has_no_location_to_learn():
    """A fresh Deformable DETR samples there: whole steps away from the centers of the pixels."""
    pixels = [[-1.0, 2.0], [2.0, -1.0], [-1.0, -1.0], [6.0, 2.0], [2.0, 5.0], [-0.75, 2.0]]
    locations = place(pixels)
    assert (locations[..., 0] * 6 - 0.5 == -1).sum() == 2, "exact in this type"
    locations.requires_grad_()
    weights = torch.ones(1, 1, 1, 1, 6, dtype=torch.float64)
    attend(draw(1, 30, 1, 2), locations, weights).sum().backward()
    found = locations.grad.flatten(0, -2)
    assert not found[:5].any() and found[5].all()


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("modulated", [True, False])
def test_zero_offsets_learn_as_a_little_ones_do(padding, modulated):
    """Every offset branch begins at zero; with padding its outer samples lie at -1 and beyond."""
    size = (5 + 2 * padding - 2, 6 + 2 * padding - 2)
    x, weight = draw(1, 2, 5, 6), draw(2, 2, 3, 3, seed=1)
    mask = torch.ones(1, 9, *size, dtype=torch.float64)

    def gradient(shift):
        offset = torch.full((1, 18, *size), shift, dtype=torch.float64).requires_grad_()
        if modulated:
            out = modulated_deform_conv2d(x, offset, mask, weight, None, 1, padding, 1, 1, 1)
        else:
            out = deform_conv2d(x, offset, weight, 1, padding, 1, 1, 1)
        out.square().sum().backward()
        return offset.grad.view(9, 2, *size)

    found, inside = gradient(0.0), gradient(1e-7)
    rows = torch.arange(size[0]) - padding
    columns = torch.arange(size[1]) - padding
    taps = torch.arange(3)
    y = (rows[None, :] + taps[:, None]).view(3, 1, -1, 1).expand(3, 3, -1, size[1]).flatten(0, 1)
    x_at = (columns[None, :] + taps[:, None]).view(1, 3, 1, -1).expand(3, 3, size[0], -1)
    at_border = (y == -1) | (x_at.flatten(0, 1) == -1)
    for axis in range(2):
        assert not found[:, axis][at_border].any()
        torch.testing.assert_close(
            found[:, axis][~at_border], inside[:, axis][~at_border], rtol=0, atol=1e-4
        )
    assert at_border.any() == (padding > 0) and found[:, 0][~at_border].any()


EMPTY = {
    "RoIAlign": lambda x: roi_align(x, torch.zeros(0, 5), 2, 1.0, 2, "avg", True),
    "maximum of RoIAlign": lambda x: roi_align(x, torch.zeros(0, 5), 2, 1.0, 2, "max", True),
    "RoIPool": lambda x: roi_pool(x, torch.zeros(0, 5), 2, 1.0),
    "deformable RoI pooling": lambda x: deform_roi_pool(x, torch.zeros(0, 5), None, 2),
    "PSA masks of no images": lambda x: psa_mask(x[:0, :1].expand(0, 9, 5, 6), 0, (3, 3)),
    "CARAFE of no images": lambda x: carafe(x[:0], torch.zeros(0, 9, 10, 12), 3, 1, 2),
}


@pytest.mark.parametrize("name", EMPTY)
def test_of_nothing_comes_nothing(name):
    x = torch.zeros(1, 2, 5, 6, requires_grad=True)
    out = EMPTY[name](x)
    assert out.shape[0] == 0
    out.sum().backward()
    assert x.grad.shape == x.shape and not x.grad.any()


POOLS = {
    "mean of RoIAlign": lambda x, rois: roi_align(x, rois, 2, 1.0, 2, "avg", True),
    "maximum of RoIAlign": lambda x, rois: roi_align(x, rois, 2, 1.0, 2, "max", True),
    "RoIPool": lambda x, rois: roi_pool(x, rois, 2, 1.0),
    "deformable RoI pooling": lambda x, rois: deform_roi_pool(x, rois, None, 2, 1.0, 2),
    "PSA masks": lambda x, rois: psa_mask(x[:, :1].expand(1, 9, 5, 6), 0, (3, 3)),
}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", POOLS)
def test_half_types_are_near_and_keep_their_type(name, dtype):
    x = draw(1, 2, 5, 6, dtype=dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    rois = NEAR.to(dtype)
    out, wanted = POOLS[name](x, rois), POOLS[name](exact, rois.double())
    out.sum().backward()
    wanted.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    close = dict(rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)
    torch.testing.assert_close(out.double(), wanted, **close)
    torch.testing.assert_close(x.grad.double(), exact.grad, **close)
