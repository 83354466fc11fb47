"""Instance masks pasted into the image and encoded at once, without a bitmap of the image."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hordet.ops.run_lengths import encode_crop


def paste_encoded(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float
) -> list[dict[str, Any]]:
    """Resize each mask into its box and encode it as COCO does.

    The numbers of mmdet's pasting: bilinear samples of the mask at the centers of the pixels,
    zero outside of it. A bilinear resize along two axes is two matrix products, and a mask is
    nonzero in its box alone, so the work and the memory are those of one box at a time; a bitmap
    a mask, 2.4 GB for 100 masks of 4000 x 6000, is never made.

    Args:
        masks: Probabilities, (N, h, w).
        boxes: (x1, y1, x2, y2) in pixels of the image, (N, 4).
        height: Of the image.
        width: Of the image.
        threshold: Least probability that belongs to the mask.

    Returns:
        One COCO run-length encoding a mask: dict(size=[height, width], counts=bytes).
    """
    masks, boxes = masks.detach().float().cpu(), boxes.detach().float().cpu()
    encodings = []
    for mask, box in zip(masks, boxes, strict=True):
        left, top, right, bottom = box.tolist()
        columns, x = _samples(left, right, width, mask.shape[1])
        rows, y = _samples(top, bottom, height, mask.shape[0])
        # Transposed, because COCO counts down the columns.
        inside = (columns @ mask.t() @ rows.t() >= threshold).numpy()
        encodings.append(encode_crop(inside, x, y, height, width))
    return encodings


def _samples(start: float, end: float, size: int, count: int) -> tuple[Tensor, int]:
    """Return the matrix (pixels, count) that samples a mask along one axis, and its first pixel.

    Pixels reach one beyond the box on each side, as far as the image does.
    """
    first = max(int(np.floor(start)) - 1, 0)
    last = min(int(np.ceil(end)) + 1, size)
    centers = torch.arange(first, max(last, first), dtype=torch.float32) + 0.5
    place = (centers - start) / (end - start) * count - 0.5
    place = place.nan_to_num(0.0, posinf=0.5 * (count - 1), neginf=0.5 * (count - 1))
    return (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0), first
