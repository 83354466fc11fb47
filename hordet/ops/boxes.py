"""Operators on boxes: overlaps and kinds of non-maximum suppression.

Boxes are (x1, y1, x2, y2) in pixels. With offset 1 the width of a box is `x2 - x1 + 1`, as in early
detectors; with offset 0 it is `x2 - x1`.
"""

import torch
import torchvision
from torch import Tensor

from hordet.ops.precision import get_working_dtype


def compute_overlaps(
    first: Tensor, second: Tensor, offset: int, over_first: bool = False
) -> Tensor:
    """Return the intersection over the union, or over the first box, of boxes with broadcasting.

    Args:
        first: Boxes, (..., 4).
        second: Boxes, (..., 4).
        offset: 0 or 1, added to every width and height.
        over_first: Divide by the area of the first box instead of the union.
    """
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    intersection = _area(bottom_right - top_left, offset, smallest=0)
    area = _area(first[..., 2:] - first[..., :2], offset)
    if not over_first:
        area = area + _area(second[..., 2:] - second[..., :2], offset) - intersection
    return intersection / area


def _area(size: Tensor, offset: int, smallest: float | None = None) -> Tensor:
    """Return (width + offset) * (height + offset) of sizes (..., 2), each factor >= `smallest`."""
    size = size + offset
    if smallest is not None:
        size = size.clamp(min=smallest)
    return size[..., 0] * size[..., 1]


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write the overlap of boxes (M, 4) and (N, 4) into `ious`, (M, N), or (M,) if aligned.

    Mode 0 is the intersection over the union, mode 1 over the first box.
    """
    dtype = get_working_dtype(bboxes1.dtype)
    first, second = bboxes1.to(dtype), bboxes2.to(dtype)
    if not aligned:
        first = first[:, None]
    ious.copy_(compute_overlaps(first, second, offset, over_first=mode == 1))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes kept, best first.

    Args:
        boxes: (N, 4).
        scores: (N,); of equal scores the lower index comes first.
        iou_threshold: Boxes that overlap a kept box by more than this are dropped.
        offset: 0 or 1, added to every width and height.
    """
    dtype = get_working_dtype(boxes.dtype)
    corners = boxes.to(dtype)
    if offset:
        corners = corners + corners.new_tensor((0, 0, offset, offset))
    # mmcv compares in the precision of the boxes, torchvision in double: there 0.3 is less than an
    # overlap of 0.3 in float32, so a box exactly at the threshold would be dropped.
    threshold = torch.tensor(iou_threshold, dtype=dtype).item()
    return torchvision.ops.nms(corners, scores.to(dtype), threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Write the boxes kept and their decayed scores into `dets`; returns their indices.

    Soft-NMS (Bodla et al. 2017, https://arxiv.org/abs/1704.04503). The best box comes first; of
    equal scores the lower index.

    Args:
        boxes: (N, 4).
        scores: (N,).
        dets: Output (N, 5); its first rows become (x1, y1, x2, y2, score).
        iou_threshold: Smallest overlap that lowers a score, for methods 0 and 1.
        sigma: Width of the Gaussian of method 2.
        min_score: Boxes whose score has decayed below this are dropped.
        method: 0 drops boxes, 1 lowers scores linearly, 2 by a Gaussian.
        offset: 0 or 1, added to every width and height.
    """
    dtype = get_working_dtype(boxes.dtype)
    remaining = torch.cat((boxes, scores[:, None]), dim=1).to(dtype)
    indices = torch.arange(len(boxes))
    kept = 0
    order = indices.clone()
    while len(remaining):
        best = int(remaining[:, 4].argmax())
        picked = remaining[best]
        dets[kept], order[kept] = picked, indices[best]
        kept += 1
        overlap = compute_overlaps(picked[:4], remaining[:, :4], offset).nan_to_num(0)
        if method == 2:
            weight = torch.exp(-(overlap**2) / sigma)
        else:
            lowered = 1 - overlap if method == 1 else torch.zeros_like(overlap)
            weight = torch.where(overlap >= iou_threshold, lowered, 1)
        decayed = remaining[:, 4] * weight
        alive = decayed >= min_score
        alive[best] = False
        remaining = torch.cat((remaining[:, :4], decayed[:, None]), dim=1)[alive]
        indices = indices[alive]
    return order[:kept]


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return groups of indices, each a kept box and then the boxes it suppresses, best first.

    Args:
        dets: Boxes and scores, (N, 5).
        iou_threshold: Smallest overlap with a kept box for joining its group.
    """
    boxes = dets[:, :4].to(get_working_dtype(dets.dtype))
    remaining = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(remaining):
        overlap = compute_overlaps(boxes[remaining[0]], boxes[remaining], offset=0)
        matched = overlap >= iou_threshold
        matched[0] = True
        groups.append(remaining[matched].tolist())
        remaining = remaining[~matched]
    return groups
