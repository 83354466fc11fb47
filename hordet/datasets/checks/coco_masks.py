"""Whether box, area and mask of a COCO annotation say the same; crowds."""

from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco_mask

from hordet.datasets.checks.findings import Fault

# The box of a mask and the stated one, pixels; annotators' boxes are a little larger or smaller.
BOX_TOLERANCE, BOX_SHARE = 4.0, 0.2
# The stated area and the mask's: this share of the larger one, beyond a few pixels.
AREA_SHARE, AREA_PIXELS = 0.5, 32.0
BORDER = 1.0


def find_mask_faults(annotations: list[dict], size: tuple[int, int]) -> Iterator[Fault]:
    """Yield the faults of an image's annotations, with their ids.

    Args:
        annotations: Of one image; malformed ones are left to the check of the file.
        size: (height, width) of the image, pixels.
    """
    if annotations and all(annotation.get("iscrowd") for annotation in annotations):
        yield Fault("have crowds alone, which training leaves out", severity="warning")
    for annotation in annotations:
        try:
            yield from _faults(annotation, size)
        except (KeyError, TypeError, ValueError, IndexError):
            continue


def _faults(annotation: dict, size: tuple[int, int]) -> Iterator[Fault]:
    name = f"annotation {annotation['id']}"
    x, y, width, height = annotation["bbox"]
    outside = x < -BORDER or y < -BORDER
    if outside or x + width > size[1] + BORDER or y + height > size[0] + BORDER:
        yield Fault("have a box that reaches over the border; clip it", name, unit="objects")
    segmentation = annotation.get("segmentation")
    if not segmentation or annotation.get("iscrowd"):
        return
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != list(size):
            return  # found in the file already
        if isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *size)
        area = float(coco_mask.area(segmentation))
        box = coco_mask.toBbox(segmentation)
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    else:
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
        (left, top), (right, bottom) = points.min(0), points.max(0)
        area = sum(_polygon_area(np.reshape(polygon, (-1, 2))) for polygon in segmentation)
    if area <= 0:
        yield Fault("have a mask without area; take it out", name, unit="objects")
        return
    tolerance = BOX_TOLERANCE + BOX_SHARE * max(right - left, bottom - top)
    off = np.abs(np.array([x, y, x + width, y + height]) - [left, top, right, bottom])
    if off.max() > tolerance:
        kind = "have a box that is not the box of its mask; write the mask's"
        yield Fault(kind, name, unit="objects")
    stated = float(annotation["area"])
    if abs(stated - area) > AREA_PIXELS + AREA_SHARE * max(stated, area):
        words = f"{name}: {stated:.0f} stated, {area:.0f} in the mask"
        kind = "have an area that is not the area of its mask; write the mask's"
        yield Fault(kind, words, unit="objects")


def _polygon_area(points: np.ndarray) -> float:
    """The area of a polygon (N, 2) by the shoelace formula."""
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
