"""The gradient of RoIAlign (He et al. 2017) by matrix products.

RoIAlign is separable: a bin is the mean over its samples of bilinear weights of rows times those of
columns. So a region's gradient is two matrix products, over the cells that its samples touch. On a
CPU that is a fraction of the time of torchvision's kernel, which goes through the samples of each
bin; and the order of the sums is fixed, on a GPU too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers that a group of regions has in its largest tensor: it stays in a processor's cache.
_GROUP_SIZE = 1 << 20


@dataclass(frozen=True)
class _Axis:
    """How much the cells along one axis count in the bins of each region.

    Attributes:
        first: First cell that a region's samples touch, (R,).
        count: How many cells they touch from there on, (R,).
        weights: Weights of these cells, (R, bins, largest count); 0 beyond a region's own.
    """

    first: Tensor
    count: Tensor
    weights: Tensor

    def select(self, chosen: Tensor) -> "_Axis":
        """Return the axis of some regions, with no more cells than they need."""
        count = self.count[chosen]
        return _Axis(self.first[chosen], count, self.weights[chosen, :, : int(count.max())])

    def list_cells(self, size: int) -> Tensor:
        """Return the cells of the weights, (R, largest count), each below `size`."""
        offsets = torch.arange(self.weights.shape[2], device=self.first.device)
        return (self.first[:, None] + offsets).clamp(max=size - 1)


def differentiate_roi_align(
    grad: Tensor,
    rois: Tensor,
    shape: torch.Size,
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Return the gradient of RoIAlign's input.

    Args:
        grad: Gradient of the bins, (R, C, height, width).
        rois: Regions (image index, x1, y1, x2, y2), (R, 5), in pixels and in the dtype of `grad`.
        shape: Of the input, (N, C, H, W).
        scale: Cells of the feature map per pixel.
        sampling_ratio: Samples along each side of a bin; 0 takes one for each cell.
        aligned: Whether pixel centers are at half coordinates.

    Returns:
        (N, C, H, W), in the memory order of channels-last.
    """
    images, channels, height, width = shape
    total = grad.new_zeros(images * height * width, channels)
    if rois.numel() and total.numel():
        boxes = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
        lengths = boxes[:, 2:] - boxes[:, :2]
        if not aligned:
            lengths = lengths.clamp(min=1.0)
        rows = _weigh_cells(boxes[:, 1], lengths[:, 1], grad.shape[2], height, sampling_ratio)
        columns = _weigh_cells(boxes[:, 0], lengths[:, 0], grad.shape[3], width, sampling_ratio)
        first = rois[:, 0].long() * (height * width)
        for chosen in _group_regions(rows.count, columns.count, channels):
            mine, across = rows.select(chosen), columns.select(chosen)
            cells = mine.list_cells(height)[:, None] * width + across.list_cells(width)[:, :, None]
            places = (cells + first[chosen, None, None]).flatten()
            # In the order (region, column, row, channel), so that both products are of matrices.
            bins = grad[chosen].permute(0, 3, 2, 1).flatten(0, 1)
            turned = mine.weights.transpose(1, 2)
            over_bins = turned[:, None].expand(-1, grad.shape[3], -1, -1).flatten(0, 1)
            in_rows = torch.bmm(over_bins, bins).view(len(chosen), grad.shape[3], -1)
            found = torch.bmm(across.weights.transpose(1, 2), in_rows)
            total.index_add_(0, places, found.view(-1, channels))
    return total.view(images, height, width, channels).permute(0, 3, 1, 2)


def _weigh_cells(start: Tensor, length: Tensor, bins: int, size: int, sampling_ratio: int) -> _Axis:
    """Weigh the cells along one axis.

    Args:
        start: Where each region begins, in cells, (R,).
        length: How long it is, in cells, (R,).
        bins: Number of its bins.
        size: Number of cells.
        sampling_ratio: As of `differentiate_roi_align`.
    """
    step = length / bins
    if sampling_ratio > 0:
        samples = torch.full_like(step, sampling_ratio, dtype=torch.long)
    else:
        samples = step.ceil().clamp(min=0).long()
    first = start.clamp(0, size - 1).floor().long()
    last = (start + length).clamp(0, size - 1).floor().long() + 1
    count = last.clamp(max=size - 1) - first + 1
    # All samples of all bins of all regions in one row, each with its region, bin and place; in the
    # order of operations of torchvision's kernel, so that they are rounded alike.
    per_region = samples * bins
    region = torch.arange(len(step), device=step.device).repeat_interleave(per_region)
    number = (
        torch.arange(len(region), device=step.device) - (per_region.cumsum(0) - per_region)[region]
    )
    of_bin = samples[region]
    bin_, number = number // of_bin, number % of_bin
    place = start[region] + bin_ * step[region] + (number + 0.5) * step[region] / of_bin
    share = ((place >= -1) & (place <= size)).to(step) / of_bin
    place = place.clamp(0, size - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=size - 1)
    beyond = place - low
    longest = int(count.max())
    weights = step.new_zeros(len(step), bins, longest)
    row = (region * bins + bin_) * longest - first[region]
    weights.view(-1).index_add_(
        0, torch.cat([row + low, row + high]), torch.cat([(1 - beyond) * share, beyond * share])
    )
    return _Axis(first, count, weights)


def _group_regions(rows: Tensor, columns: Tensor, channels: int) -> Iterator[Tensor]:
    """Group regions of about the same number of rows and columns of cells; yield their indices.

    A group has no more than twice the rows and the columns of its smallest region, so that few
    products are with zeros, and so many regions that it stays in the cache.

    Args:
        rows: Rows of cells of each region, (R,).
        columns: Columns, likewise.
        channels: Of the features.
    """
    doubled = [count.double().log2().ceil().long() for count in (rows, columns)]
    key = doubled[0] * 64 + doubled[1]
    key, order = key.sort(stable=True)
    sizes = key.unique_consecutive(return_counts=True)[1].tolist()
    for group in order.split(sizes):
        cells = int(rows[group].max()) * int(columns[group].max())
        yield from group.split(max(1, _GROUP_SIZE // (cells * channels)))
