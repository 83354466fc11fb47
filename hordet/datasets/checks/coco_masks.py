"""Whether box, area and mask of a COCO annotation say the same, from the file alone."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hordet.datasets.checks.box_forms import (
    MOST,
    SOME,
    Objects,
    find_boxes_over,
    find_strange_boxes,
)
from hordet.datasets.checks.findings import Findings
from hordet.datasets.formats.coco import CocoFile
from hordet.errors import list_first

# The stated area and the mask's: this share of the larger one, beyond a few pixels.
AREA_SHARE, AREA_PIXELS = 0.5, 32.0
# mmdet leaves out boxes with a side below it, pixels (`CocoDataset.parse_data_info`).
LEAST_SIDE = 1.0
# Of the objects: what mmdet leaves out, and what it trains wrongly.
HALF = 0.5


def find_mask_faults(file: CocoFile, objects: Objects) -> Findings:
    """Compare boxes, areas and masks, and boxes with the sizes of the images.

    What mmdet trains rightly, as it clips or skips, is a warning; it is an error where so many
    objects have it that the file says something else than is meant.

    Args:
        file: An annotation file whose images and categories are without faults.
        objects: Its objects.
    """
    found = Findings()
    # The others are told one by one.
    end = objects.boxes[:, :2] + objects.boxes[:, 2:]
    inside = (objects.boxes[:, :2] < objects.sizes) & (end > 0) & (objects.boxes[:, 2:] > 0)
    objects = objects.pick(np.all(inside, axis=1))
    if not len(objects):
        return found
    for words, cure, which, most in _look(objects):
        if not which.any():
            continue
        ids = [file.annotations[place].get("id") for place in objects.places[which]]
        severe = len(ids) > most * len(objects)
        (found.errors if severe else found.warnings).append(
            f"{len(ids)} of {len(file.annotations)} annotations in {file.path} {words}: "
            f"ids {list_first(ids)}. {cure}"
        )
    return found


def _look(objects: Objects) -> Iterator[tuple[str, str, NDArray[np.bool_], float]]:
    """Yield words, cure, objects that have a fault, and the share of objects that may have it."""
    boxes, sizes, areas = objects.boxes, objects.sizes, objects.mask_areas
    small = np.any(boxes[:, 2:] < LEAST_SIDE, axis=1)
    yield (
        "have a box of less than one pixel, which training leaves out",
        "Correct them or take them out; if most are such, boxes are not in pixels.",
        small,
        SOME,
    )
    over = find_boxes_over(objects) & ~small
    x, y, right, bottom = boxes[over].T
    corners = (x < right) & (y < bottom) & (right <= sizes[over, 0] + 1)
    corners &= bottom <= sizes[over, 1] + 1
    if over.mean() > SOME and corners.mean() >= MOST:
        yield (
            "have a box that reaches over the border as x, y, width, height, and lies in the image "
            "as x1, y1, x2, y2",
            "Write sizes for those of the file that are corners.",
            over,
            0.0,
        )
    else:
        cure = "It is clipped for training; clip it in the file."
        yield "have a box that reaches over the border", cure, over, 1.0
    strange = find_strange_boxes(objects) & ~small
    cure = "Write the mask's box, or draw the mask again, whichever is wrong."
    yield "have a box that is not the box of its mask", cure, strange, HALF
    yield "have a mask without area", "Correct them or take them out.", areas <= 0, SOME
    larger = np.maximum(objects.areas, areas)
    off = np.abs(objects.areas - areas) > AREA_PIXELS + AREA_SHARE * larger
    off &= objects.has_mask
    words = "have an area that is not the area of its mask"
    cure = "Write the mask's: it says whether an object counts as small, medium or large."
    yield words, cure, off, 1.0


def find_crowded_images(annotations: Sequence[dict]) -> bool:
    """Tell whether an image has crowds alone, which training leaves out."""
    return bool(annotations) and all(annotation.get("iscrowd") == 1 for annotation in annotations)
