"""In which form the boxes of an annotation file are written: by its masks, or by its image sizes.

Exporters write corners for sizes, centers for corners, x and y in another order, shares, percent or
per mille of the image's sides. A form is recognized where most boxes are the boxes of their masks
if they are read in it; without masks, where most lie in their images in it and not as COCO's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hordet.datasets.formats.coco import (
    FARTHEST,
    CocoFile,
    is_box,
    is_id,
    is_number,
    is_polygon,
    is_size,
    measure_mask,
)
from hordet.datasets.formats.record import BORDER

# The share of the objects that shows a habit, not a slip; what is more than slips.
MOST, SOME = 0.9, 0.1
# How far a box may be from that of its mask, pixels and share of its long side. Annotators' boxes
# are a little larger or smaller; a box in the right form is nearer.
LOOSE, NEAR = (4.0, 0.2), (2.0, 0.1)
_SLACK = 1.01  # what rounding adds to 1
_AT_ONCE = 50_000  # polygons that are measured together

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Objects:
    """The objects of a file that have a box and an image of known size, as arrays.

    Attributes:
        places: Index of each in the file's annotations, (N,).
        boxes: As they are stated, (N, 4).
        sizes: Width, height of their images, pixels, (N, 2).
        masks: Left, top, right, bottom of their masks as stated; NaN without one, (N, 4).
        mask_areas: Area of their masks, NaN without one, (N,).
        areas: As they are stated, NaN without one, (N,).
    """

    places: NDArray[np.intp]
    boxes: Array
    sizes: Array
    masks: Array
    mask_areas: Array
    areas: Array

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.places)

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        """Tell which have a mask with an area, (N,)."""
        return self.mask_areas > 0

    def pick(self, chosen: NDArray[np.bool_]) -> "Objects":
        """Return some of the objects."""
        return Objects(
            self.places[chosen],
            self.boxes[chosen],
            self.sizes[chosen],
            self.masks[chosen],
            self.mask_areas[chosen],
            self.areas[chosen],
        )


def gather_objects(file: CocoFile) -> Objects:
    """Gather what is compared; malformed objects and masks are left to the check of each."""
    sizes = {
        image["id"]: (image["height"], image["width"])
        for image in file.images
        if is_id(image.get("id")) and all(map(is_size, (image.get("height"), image.get("width"))))
    }
    rows: list[tuple[Any, ...]] = []
    outlines: list[tuple[int, list[Any]]] = []
    runs: list[tuple[int, dict[str, Any]]] = []
    for place, annotation in enumerate(file.annotations):
        image_id, box = annotation.get("image_id"), annotation.get("bbox")
        if not is_id(image_id) or image_id not in sizes or not is_box(box):
            continue
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and not annotation.get("iscrowd"):
            outlines += [(len(rows), polygon) for polygon in segmentation]
        elif isinstance(segmentation, dict) and not annotation.get("iscrowd"):
            runs.append((len(rows), annotation))
        area = annotation.get("area")
        height, width = sizes[image_id]
        rows.append((place, *box, width, height, area if is_number(area) else np.nan))  # type: ignore[misc]
    table = np.array(rows, np.float64).reshape(-1, 8)
    masks, areas = _measure_polygons(outlines, len(rows))
    for row, annotation in runs:
        bounds, area = measure_mask(annotation, sizes)
        if bounds is not None and area is not None:
            left, top, width, height = bounds
            masks[row], areas[row] = (left, top, left + width, top + height), area
    places = table[:, 0].astype(np.intp)
    return Objects(places, table[:, 1:5], table[:, 5:7], masks, areas, table[:, 7])


def _measure_polygons(
    outlines: Sequence[tuple[int, list[Any]]], number: int
) -> tuple[Array, Array]:
    """Measure the polygons of a file together: one by one takes minutes for a million.

    Args:
        outlines: Number of the object, and a polygon of it; those that are none are passed over.
        number: Of the objects.

    Returns:
        Left, top, right, bottom (number, 4) and area (number,); NaN without a polygon.
    """
    masks = np.tile(np.array([np.inf, np.inf, -np.inf, -np.inf]), (number, 1))
    areas = np.zeros(number)
    taken = np.zeros(number, np.bool_)
    for start in range(0, len(outlines), _AT_ONCE):
        part = [
            (row, polygon)
            for row, polygon in outlines[start : start + _AT_ONCE]
            if isinstance(polygon, list) and len(polygon) >= 6 and not len(polygon) % 2
        ]
        try:
            values = np.array([value for _, polygon in part for value in polygon])
        except ValueError:  # lists among numbers, of several lengths
            values = np.array([None])
        if values.dtype.kind not in "fiu" or values.ndim > 1:
            part = [(row, polygon) for row, polygon in part if is_polygon(polygon)]
            values = np.array([value for _, polygon in part for value in polygon])
        if not part:
            continue
        x, y = values.astype(np.float64).reshape(-1, 2).T
        rows = np.array([row for row, _ in part])
        ends = np.cumsum([len(polygon) // 2 for _, polygon in part])
        starts = np.concatenate([[0], ends[:-1]])
        known = np.logical_and.reduceat((np.abs(x) < FARTHEST) & (np.abs(y) < FARTHEST), starts)
        after = np.arange(1, len(x) + 1)
        after[ends - 1] = starts
        with np.errstate(invalid="ignore", over="ignore"):
            cross = np.add.reduceat(x * y[after] - x[after] * y, starts)
        rows = rows[known]
        for column, side in enumerate((x, y, x, y)):
            reduce = np.minimum if column < 2 else np.maximum
            reduce.at(masks[:, column], rows, reduce.reduceat(side, starts)[known])
        np.add.at(areas, rows, np.abs(cross[known]) / 2)
        taken[rows] = True
    masks[~taken] = np.nan
    areas[~taken] = np.nan
    return masks, areas


def _from_corners(b: Array) -> Array:
    return np.stack([b[:, 0], b[:, 1], b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]], 1)


def _from_centers(b: Array) -> Array:
    return np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], 1)


@dataclass(frozen=True)
class BoxForm:
    """A form of boxes that is not COCO's.

    Attributes:
        name: A word for the name of the corrected copy.
        words: What such a box is.
        cure: How to make it COCO's.
        convert: Makes boxes of it x, y, width, height, in its own unit (N, 4).
        unit: What of the image's sides it counts as one side; None for pixels.
    """

    name: str
    words: str
    cure: str
    convert: Callable[[Array], Array]
    unit: float | None = None

    def read(self, boxes: Array, sizes: Array) -> Array:
        """Return x, y, width, height in pixels (N, 4)."""
        made = self.convert(boxes)
        return made if self.unit is None else made * np.tile(sizes, (1, 2)) / self.unit


def _same(boxes: Array) -> Array:
    return boxes


def _swap(convert: Callable[[Array], Array], *order: int) -> Callable[[Array], Array]:
    return lambda boxes: convert(boxes[:, order])


COCO = BoxForm("pixels", "", "", _same)
_PIXELS = "x and width by the image's width, y and height by its height"


def _make_scaled(unit: float, what: str, fraction: str) -> tuple[BoxForm, ...]:
    cure = f"Multiply {_PIXELS}{fraction}"
    forms = (
        ("x, y, width, height", _same),
        ("center x, center y, width, height", _from_centers),
        ("x1, y1, x2, y2", _from_corners),
        ("y1, x1, y2, x2", _swap(_from_corners, 1, 0, 3, 2)),
    )
    return tuple(
        BoxForm("pixels", f"{what} ({form}), where COCO has pixels", cure, convert, unit)
        for form, convert in forms
    )


SHARES = _make_scaled(1, "between 0 and 1: shares of the image's sides", "")
PERCENTS = _make_scaled(
    100, "between 0 and 100: percent of the image's sides", ", and divide by 100"
)
PER_MILLES = _make_scaled(
    1000, "between 0 and 1000: per mille of the image's sides", ", and divide by 1000"
)
_SIZES = "where COCO has x, y, width, height"
CORNERS = BoxForm(
    "sizes",
    f"of x1, y1, x2, y2: its last two numbers are a corner, {_SIZES}",
    "Write x2 - x1 and y2 - y1 in their place",
    _from_corners,
)
ROWS_FIRST = BoxForm(
    "sizes",
    f"of y1, x1, y2, x2: corners with y before x, {_SIZES}",
    "Write x1, y1, x2 - x1, y2 - y1",
    _swap(_from_corners, 1, 0, 3, 2),
)
PAIRS = BoxForm(
    "sizes",
    f"of x1, x2, y1, y2: both x before both y, {_SIZES}",
    "Write x1, y1, x2 - x1, y2 - y1",
    _swap(_from_corners, 0, 2, 1, 3),
)
CENTERS = BoxForm(
    "sizes",
    "of center x, center y, width, height, where COCO has the upper left corner",
    "Subtract half of the width from x and half of the height from y",
    _from_centers,
)
SWAPPED = BoxForm(
    "sizes", f"of y, x, height, width, {_SIZES}", "Exchange them", _swap(_same, 1, 0, 3, 2)
)
_UNSCALED = (CORNERS, ROWS_FIRST, PAIRS, CENTERS, SWAPPED)
# Those that are named without masks, in this order: the first fits few boxes of the later ones.
_BY_SIZE = (CORNERS, ROWS_FIRST, PAIRS, SWAPPED, CENTERS)


@dataclass(frozen=True)
class Habit:
    """A form in which boxes are written that is not COCO's.

    Attributes:
        form: The form.
        places: Index of each such object in the file's annotations.
        scale_masks: Whether polygons are in the same unit, and must be scaled too.
    """

    form: BoxForm
    places: NDArray[np.intp]
    scale_masks: bool


def find_habit(objects: Objects) -> Habit | None:
    """Recognize a form of the boxes, of all or of a part, that is not COCO's.

    Args:
        objects: Of a file.
    """
    if len(objects) < 2:
        return None
    masked = objects.pick(objects.has_mask)
    known = 2 * len(masked) >= len(objects) and len(masked) >= 2
    small = _are_shares(objects.boxes)
    if small.mean() >= MOST:
        form = _choose_shares(objects, masked if known else None)
        return Habit(form, objects.places, are_small(objects.masks))
    if not known:
        return _recognize_by_sizes(objects, alike=False)
    if habit := _recognize_by_masks(objects, masked):
        return habit
    alike = _is_near(masked.boxes, masked.masks, NEAR).mean() >= MOST
    return _recognize_by_sizes(objects, alike=True) if alike else None


def _are_shares(boxes: Array) -> NDArray[np.bool_]:
    """Tell which boxes are in 0 to 1, if they are not whole numbers."""
    inside = (boxes.min(1) >= -0.01) & (boxes.max(1) <= _SLACK)
    return inside & bool((boxes[inside] != np.rint(boxes[inside])).any())


def are_small(masks: Array) -> bool:
    """Tell whether masks are shares of the image's sides, too."""
    known = masks[~np.isnan(masks[:, 0])]
    inside = known[known.max(1, initial=0) <= _SLACK]
    odd = bool((inside != np.rint(inside)).any())
    return odd and len(inside) >= MOST * len(known)


def _choose_shares(objects: Objects, masked: Objects | None) -> BoxForm:
    if masked is not None:
        # Of shares, too, if the masks are: as pixels, a long side of 1 would be near anything.
        bounds = masked.masks
        if are_small(bounds):
            bounds = bounds * np.tile(masked.sizes, (1, 2))
        near = [_is_near(f.read(masked.boxes, masked.sizes), bounds, NEAR).mean() for f in SHARES]
        if max(near) >= MOST:
            return SHARES[int(np.argmax(near))]
    fits = [_fits(form.read(objects.boxes, objects.sizes), objects.sizes).mean() for form in SHARES]
    for place in (0, 2, 1):
        if fits[place] >= MOST:
            return SHARES[place]
    return SHARES[0]


def _is_near(boxes: Array, bounds: Array, tolerance: tuple[float, float]) -> NDArray[np.bool_]:
    """Tell which boxes (x, y, width, height) are those of masks (left, top, right, bottom)."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    long = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    return np.abs(corners - bounds).max(1, initial=0) <= tolerance[0] + tolerance[1] * long


def find_strange_boxes(objects: Objects) -> NDArray[np.bool_]:
    """Tell which objects have a mask whose box is not theirs, (N,)."""
    return objects.has_mask & ~_is_near(objects.boxes, objects.masks, LOOSE)


def find_boxes_over(objects: Objects) -> NDArray[np.bool_]:
    """Tell which boxes reach over the border of their image, (N,)."""
    boxes, sizes = objects.boxes, objects.sizes
    end = boxes[:, :2] + boxes[:, 2:]
    return np.any((boxes[:, :2] < -BORDER) | (end > sizes + BORDER), axis=1)


def _fits(boxes: Array, sizes: Array) -> NDArray[np.bool_]:
    """Tell which boxes have sides and lie in their images."""
    end = boxes[:, :2] + boxes[:, 2:]
    inside = (boxes[:, :2] >= -BORDER) & (end <= sizes + BORDER) & (boxes[:, 2:] > 0)
    return np.all(inside, axis=1)


def _recognize_by_masks(objects: Objects, masked: Objects) -> Habit | None:
    strange = find_strange_boxes(masked)
    if strange.mean() <= SOME:
        return None
    odd = masked.pick(strange)
    forms = (*_UNSCALED, *SHARES, *PERCENTS, *PER_MILLES)
    near = [_is_near(f.read(odd.boxes, odd.sizes), odd.masks, NEAR).mean() for f in forms]
    if max(near) < MOST:
        return None
    form = forms[int(np.argmax(near))]
    # Of small objects every form is near; they tell nothing of whether it is that of all.
    right = _is_near(form.read(masked.boxes, masked.sizes), masked.masks, NEAR)
    if right.mean() >= MOST:
        return Habit(form, objects.places, scale_masks=False)
    return Habit(form, odd.places, scale_masks=False)


def _recognize_by_sizes(objects: Objects, alike: bool) -> Habit | None:
    """Recognize a form by the sizes of the images and by stated areas.

    Args:
        objects: Of a file.
        alike: Whether masks are where the boxes are, so that both may be scaled; else there are
            none.
    """
    over = find_boxes_over(objects).mean() > SOME
    if not alike and (over or _have_corner_areas(objects)):
        for form in _BY_SIZE:
            if _fits(form.read(objects.boxes, objects.sizes), objects.sizes).mean() >= MOST:
                return Habit(form, objects.places, scale_masks=False)
    for forms in (PERCENTS, PER_MILLES):
        unit = forms[0].unit or 1.0
        if not over or objects.boxes.max() > unit * _SLACK:
            continue
        for form in forms[:2]:
            if _fits(form.read(objects.boxes, objects.sizes), objects.sizes).mean() >= MOST:
                return Habit(form, objects.places, scale_masks=alike)
    return None


def _have_corner_areas(objects: Objects) -> bool:
    """Tell whether stated areas are those of corners, not of sizes."""
    x, y, right, bottom = objects.boxes.T
    corner, size = (right - x) * (bottom - y), right * bottom
    apart = np.abs(corner - size) > 0.02 * size
    alike = np.abs(objects.areas - corner) <= 0.02 * np.maximum(objects.areas, corner)
    return bool((apart & alike).mean() >= MOST)
