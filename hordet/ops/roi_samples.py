"""Pooling of regions by bilinear samples that torchvision lacks, in plain torch.

RoIAlign with the maximum of the samples, and deformable RoI pooling (Dai et al. 2017, section 2.2),
in which each bin is moved by an offset. It goes region by region, which are as in `hordet.ops.roi`.
"""

import math

import torch
from torch import Tensor

from hordet.ops.precision import get_working_dtype

# What mmcv's operator gives for the maximum of no sample.
_NO_MAXIMUM = -10000.0


def sample_bilinear(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolate a map; 0 beyond a pixel outside, the border's value up to there.

    Args:
        plane: Map, (C, H, W).
        y: Rows, of any shape.
        x: Columns, of the same shape.

    Returns:
        Values (C, *shape).
    """
    height, width = plane.shape[1:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.detach().floor().long(), x.detach().floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    v, u = y - top, x - left
    flat = plane.flatten(1)
    value = (
        (1 - v) * (1 - u) * flat[:, top * width + left]
        + (1 - v) * u * flat[:, top * width + right]
        + v * (1 - u) * flat[:, bottom * width + left]
        + v * u * flat[:, bottom * width + right]
    )
    return value * inside


def _place_samples(start: Tensor, size: Tensor, bins: int, sampling: int) -> tuple[Tensor, int]:
    """Place the samples of a region along one axis.

    Args:
        start: Where the region begins, a number.
        size: Its length.
        bins: Number of bins.
        sampling: Samples of a bin; 0 takes one for each cell.

    Returns:
        The places (bins, samples), and the number of samples, which may be 0.
    """
    length = size / bins
    count = sampling or max(0, math.ceil(float(length)))
    steps = torch.arange(count, device=start.device, dtype=start.dtype)
    first = torch.arange(bins, device=start.device, dtype=start.dtype)[:, None]
    return start + (first + (steps + 0.5) / max(count, 1)) * length, count


def max_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Write the largest sample of each bin into `output`, and where it was taken.

    Args:
        input: Features, (N, C, H, W).
        rois: Regions, (R, 5).
        output: (R, C, h, w).
        argmax_y: Rows of the samples, like `output`; -1 for a bin without any.
        argmax_x: Columns.
        spatial_scale: Cells of the feature map per pixel.
        sampling_ratio: Samples along each side of a bin; 0 takes one for each cell.
        aligned: Whether pixel centers are at half coordinates.
    """
    features = input.to(get_working_dtype(input.dtype))
    height, width = output.shape[2:]
    for index, (image, *box) in enumerate(rois.to(features.dtype)):
        left, top, right, bottom = (v * spatial_scale - 0.5 * aligned for v in box)
        sizes = (bottom - top, right - left)
        if not aligned:
            sizes = (sizes[0].clamp(min=1), sizes[1].clamp(min=1))
        y, rows = _place_samples(top, sizes[0], height, sampling_ratio)
        x, columns = _place_samples(left, sizes[1], width, sampling_ratio)
        if not rows * columns:
            output[index].fill_(_NO_MAXIMUM)
            argmax_y[index].fill_(-1)
            argmax_x[index].fill_(-1)
            continue
        shape = (height, width, rows, columns)
        y = y[:, None, :, None].expand(shape).flatten(2)
        x = x[None, :, None, :].expand(shape).flatten(2)
        values, best = sample_bilinear(features[int(image)], y, x).max(dim=-1)
        output[index] = values.to(output.dtype)
        argmax_y[index] = y.expand(len(best), -1, -1, -1).gather(-1, best[..., None])[..., 0]
        argmax_x[index] = x.expand(len(best), -1, -1, -1).gather(-1, best[..., None])[..., 0]


def max_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor
) -> None:
    """Write the gradient of the features into `grad_input`; shapes as in `max_forward`."""
    dtype = get_working_dtype(grad_input.dtype)
    total = grad_input.new_zeros(grad_input.shape, dtype=dtype)
    height, width = grad_input.shape[2:]
    for index, image in enumerate(rois[:, 0].long().tolist()):
        y, x = argmax_y[index].to(dtype).flatten(1), argmax_x[index].to(dtype).flatten(1)
        taken = (y != -1) & (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
        gradient = grad_output[index].to(dtype).flatten(1) * taken
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
        top, left = y.floor().long(), x.floor().long()
        bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        v, u = y - top, x - left
        plane = total[image].flatten(1)  # a view
        plane.scatter_add_(1, top * width + left, gradient * (1 - v) * (1 - u))
        plane.scatter_add_(1, top * width + right, gradient * (1 - v) * u)
        plane.scatter_add_(1, bottom * width + left, gradient * v * (1 - u))
        plane.scatter_add_(1, bottom * width + right, gradient * v * u)
    grad_input.copy_(total)


def _pool_moved(
    plane: Tensor,
    box: Tensor,
    offset: Tensor | None,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    """Return the mean samples (C, h, w) of a region whose bins are moved by an offset (2, h, w)."""
    left, top, right, bottom = box * spatial_scale - 0.5
    sizes = (bottom - top, right - left)
    y, rows = _place_samples(top, sizes[0], size[0], sampling_ratio)
    x, columns = _place_samples(left, sizes[1], size[1], sampling_ratio)
    shape = (*size, rows, columns)
    y, x = y[:, None, :, None].expand(shape), x[None, :, None, :].expand(shape)
    if offset is not None:  # in shares of the region: x first, then y
        x = x + (gamma * sizes[1] * offset[0])[..., None, None]
        y = y + (gamma * sizes[0] * offset[1])[..., None, None]
    return sample_bilinear(plane, y, x).sum((-2, -1)) / max(rows * columns, 1)


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the mean of the samples in each moved bin of each region into `output`.

    Args:
        input: Features, (N, C, H, W).
        rois: Regions, (R, 5).
        offset: (R, 2, pooled_height, pooled_width): x and y, times gamma in sides of the region;
            empty for none.
        output: (R, C, pooled_height, pooled_width).
        pooled_height: Number of bins of a region, top to bottom.
        pooled_width: Number of bins of a region, left to right.
        spatial_scale: Cells of the feature map per pixel.
        sampling_ratio: Samples along each side of a bin; 0 takes one for each cell.
        gamma: Scale of the offset.
    """
    features = input.to(get_working_dtype(input.dtype))
    size, regions = (pooled_height, pooled_width), rois.to(features.dtype)
    moves = offset.to(features.dtype).view(len(rois), 2, *size) if offset.numel() else None
    for index, region in enumerate(regions):
        moved = None if moves is None else moves[index]
        plane = features[int(region[0])]
        pooled = _pool_moved(plane, region[1:], moved, size, spatial_scale, sampling_ratio, gamma)
        output[index] = pooled.to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the gradients of the features and the offset; see deform_roi_pool_forward."""
    features = input.to(get_working_dtype(input.dtype))
    size, regions = (pooled_height, pooled_width), rois.to(features.dtype)
    moves = offset.to(features.dtype).view(len(rois), 2, *size) if offset.numel() else None
    total = torch.zeros_like(features)
    moved_total = None if moves is None else torch.zeros_like(moves)
    for index, region in enumerate(regions):
        image = int(region[0])
        with torch.enable_grad():
            plane = features[image].detach().requires_grad_()
            moved = None if moves is None else moves[index].detach().requires_grad_()
            pooled = _pool_moved(
                plane, region[1:], moved, size, spatial_scale, sampling_ratio, gamma
            )
        wanted = [plane] if moved is None else [plane, moved]
        gradients = torch.autograd.grad(
            pooled, wanted, grad_output[index].to(features.dtype), allow_unused=True
        )
        if gradients[0] is not None:
            total[image] += gradients[0]
        if moved_total is not None and gradients[1] is not None:
            moved_total[index] = gradients[1]
    grad_input.copy_(total)
    if moved_total is not None:
        grad_offset.copy_(moved_total.view_as(grad_offset))
