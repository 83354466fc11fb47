"""Masks as COCO's run lengths, without a bitmap of the image; knows no other part of hordet."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


def encode_crop(crop: NDArray[Any], x: int, y: int, height: int, width: int) -> dict[str, Any]:
    """Encode a mask that is nonzero in a part of its image alone.

    Args:
        crop: The part, transposed, for COCO counts down the columns: (columns, rows), bool or uint8
            of 0 and 1.
        x: Its first column in the image.
        y: Its first row.
        height: Of the image.
        width: Of the image.

    Returns:
        COCO's compressed run lengths: dict(size=[height, width], counts=bytes).
    """
    columns, rows = crop.shape
    # A zero ends each column, unless runs go on at the top of the next one.
    step = rows if rows == height else rows + 1
    stretch = np.zeros(columns * step + 2, dtype=np.uint8)
    stretch[1:-1].reshape(columns, step)[:, :rows] = crop
    (edges,) = np.nonzero(stretch[1:] != stretch[:-1])
    column, row = np.divmod(edges, step)
    runs = np.diff((x + column) * height + y + row, prepend=0, append=height * width)
    # Zeros come first, if none; COCO's own encoder ends with the last run that is not empty.
    runs = runs if runs[-1] else runs[:-1]
    return coco_mask.frPyObjects(dict(size=[height, width], counts=runs.tolist()), height, width)


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Rasterize an annotation's polygons or run lengths.

    Args:
        segmentation: As COCO has it: polygons, or run lengths, compressed or not.
        size: (height, width) of the image.

    Returns:
        0 and 1, (height, width); None if there is no polygon.
    """
    if isinstance(segmentation, list):
        # Fewer than three points are no polygon; pycocotools would read two as a box.
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return None
        segmentation = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.decode(segmentation)


def encode_mask(
    mask: NDArray[Any], x: int = 0, y: int = 0, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Encode a mask, four times faster than copying it to columns for pycocotools.

    Args:
        mask: Bitmap (rows, columns), uint8 of 0 and 1, of the image or of a part of it.
        x: First column of the part.
        y: Its first row.
        size: (height, width) of the image; the mask's by default.

    Returns:
        COCO's compressed run lengths.
    """
    height, width = size or mask.shape
    (columns,) = np.nonzero(np.bitwise_or.reduce(mask, axis=0))
    if not columns.size:
        return encode_crop(mask[:0, :0], 0, 0, height, width)
    first, end = int(columns[0]), int(columns[-1]) + 1
    return encode_crop(cv2.transpose(mask[:, first:end]), x + first, y, height, width)
