"""Pooling of features inside regions: RoIAlign (He et al. 2017) and RoIPool (Girshick 2015).

Regions are rows (image index, x1, y1, x2, y2), in pixels of the image; times `spatial_scale` they
are in cells of the feature map.
"""

import torch
import torchvision  # noqa: F401  registers its operators
from torch import Tensor

from hordet.ops.precision import get_working_dtype
from hordet.ops.roi_gradient import differentiate_roi_align
from hordet.ops.roi_samples import max_backward, max_forward


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the mean, or the maximum, of bilinear samples in each bin of each region.

    Args:
        input: Features, (N, C, H, W).
        rois: Regions, (R, 5).
        output: (R, C, aligned_height, aligned_width).
        argmax_y: For the maximum, where it was taken: rows, like `output`; empty for the mean.
        argmax_x: Columns, likewise.
        aligned_height: Number of bins of a region, top to bottom.
        aligned_width: Number of bins of a region, left to right.
        spatial_scale: Cells of the feature map per pixel.
        sampling_ratio: Samples along each side of a bin; 0 takes one for each cell.
        pool_mode: 1, the mean, or 0, the maximum, which is slow: a region at a time.
        aligned: Whether pixel centers are at half coordinates.
    """
    if pool_mode == 0:
        max_forward(input, rois, output, argmax_y, argmax_x, spatial_scale, sampling_ratio, aligned)
        return
    dtype = get_working_dtype(input.dtype)
    inputs = input.to(dtype), rois.to(dtype)
    size = aligned_height, aligned_width
    # Not torchvision's function: on a GPU under deterministic algorithms it takes a slow form.
    kernel = torch.ops.torchvision.roi_align
    output.copy_(kernel(*inputs, spatial_scale, *size, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the features (N, C, H, W) into `grad_input`; see roi_align_forward."""
    if pool_mode == 0:
        max_backward(grad_output, rois, argmax_y, argmax_x, grad_input)
        return
    if grad_output.device.type == "cpu" or torch.are_deterministic_algorithms_enabled():
        # torchvision's kernel is slow on a CPU. On a GPU it adds by atomics, in an order that
        # changes from run to run.
        differentiate = differentiate_roi_align
    else:
        differentiate = _call_kernel
    dtype = get_working_dtype(grad_output.dtype)
    inputs = grad_output.to(dtype), rois.to(dtype), grad_input.shape
    grad_input.copy_(differentiate(*inputs, spatial_scale, sampling_ratio, aligned))


def _call_kernel(
    grad: Tensor,
    rois: Tensor,
    shape: torch.Size,
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Do what `differentiate_roi_align` does, by torchvision's kernel."""
    options = (scale, *grad.shape[2:], *shape, sampling_ratio, aligned)
    return torch.ops.torchvision._roi_align_backward(grad.contiguous(), rois, *options)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the maximum of each bin of each region into `output`, and its place into `argmax`.

    As in mmcv's operator, bins start at the floor and end at the ceiling of their exact borders.
    torchvision's operator rounds the regions first and gives other numbers. This one is slow,
    because it computes one region at a time.

    Args:
        input: Features, (N, C, H, W).
        rois: Regions, (R, 5).
        output: (R, C, pooled_height, pooled_width); an empty bin is 0.
        argmax: Like `output`, int32: row * W + column; an empty bin is -1.
        pooled_height: Number of bins of a region, top to bottom.
        pooled_width: Number of bins of a region, left to right.
        spatial_scale: Cells of the feature map per pixel.
    """
    height, width = input.shape[2:]
    rois = rois.to(get_working_dtype(rois.dtype))
    rows = _compute_bins(rois[:, 2], rois[:, 4], pooled_height, spatial_scale, height)
    columns = _compute_bins(rois[:, 1], rois[:, 3], pooled_width, spatial_scale, width)
    output.zero_()
    argmax.fill_(-1)
    for index, image in enumerate(rois[:, 0].long().tolist()):
        for i, (top, bottom) in enumerate(rows[index]):
            for j, (left, right) in enumerate(columns[index]):
                if top >= bottom or left >= right:
                    continue
                values, places = input[image, :, top:bottom, left:right].flatten(1).max(dim=1)
                row = places // (right - left) + top
                column = places % (right - left) + left
                output[index, :, i, j] = values
                argmax[index, :, i, j] = (row * width + column).int()


def _compute_bins(
    start: Tensor, end: Tensor, count: int, scale: float, size: int
) -> list[list[tuple[int, int]]]:
    """Return the first and the last + 1 cell of every bin of every region along one axis."""
    start = start[:, None] * scale
    length = (end[:, None] + 1) * scale - start
    bins = torch.arange(count + 1, device=start.device, dtype=start.dtype)
    borders = bins * (length / count) + start
    first = borders[:, :-1].floor().clamp(0, size).long()
    last = borders[:, 1:].ceil().clamp(0, size).long()
    last = torch.where(length > 0, last, first)  # a region of no size has only empty bins
    return torch.stack((first, last), dim=-1).tolist()


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write into `grad_input`, (N, C, H, W), the gradients (R, C, h, w) at their maxima."""
    planes = grad_input.new_zeros(
        grad_input.shape[:2].numel(),
        grad_input.shape[2:].numel(),
        dtype=get_working_dtype(grad_input.dtype),
    )
    channels = torch.arange(grad_input.shape[1], device=rois.device)
    plane = rois[:, :1].long() * grad_input.shape[1] + channels
    pooled = argmax >= 0
    plane = plane[:, :, None, None].expand_as(argmax)[pooled]
    planes.index_put_(
        (plane, argmax[pooled].long()), grad_output[pooled].to(planes.dtype), accumulate=True
    )
    grad_input.copy_(planes.view_as(grad_input))
