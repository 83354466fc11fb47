"""Faults of a whole annotation file: an exporter's habit, said once with the cure.

Found one by one they would be hundreds of boxes outside their images, and no word of why.
"""

from collections.abc import Callable, Sequence
from typing import Any

from hordet.datasets.formats.coco import CocoFile, is_box, is_number, is_polygon
from hordet.datasets.plain_copies import write_copy
from hordet.errors import FileWriteError

# The share of the objects that shows a habit, not a slip.
MOST = 0.9
# Corners read as sizes reach over the border for objects right or below of the middle.
SOME = 0.1
_SLACK = 1.01  # what rounding adds to 1

Box = tuple[float, float, float, float]
Size = tuple[int, int]  # width, height


def find_systematic_fault(file: CocoFile) -> str | None:
    """Say what is wrong with the objects of a file as a whole; None if there is no such habit.

    A corrected copy is written to the cache, and the sentence names it.

    Args:
        file: An annotation file whose images and categories are without faults; objects of an
            image without a size are not looked at.
    """
    sizes = {
        image["id"]: (image["width"], image["height"])
        for image in file.images
        if image.get("width") and image.get("height")
    }
    objects = [
        a
        for a in file.annotations
        if is_box(a.get("bbox")) and isinstance(a.get("image_id"), int) and a["image_id"] in sizes
    ]
    boxes = [tuple(a["bbox"]) for a in objects]
    if len(boxes) < 2:
        return None
    number = f"{len(boxes)} of {len(file.annotations)} objects of {file.path} have"
    if _are_shares(boxes):
        centered = _are_centered(boxes)
        form = "center x, center y, width, height" if centered else "x, y, width, height"
        return (
            f"{number} a box between 0 and 1: shares of the image's sides ({form}), where COCO has "
            "pixels. Multiply x and width by the image's width, y and height by its height, of "
            f"polygons likewise{_offer(file, 'pixels', _to_pixels(sizes, centered))}."
        )
    if _are_corners(objects, [sizes[a["image_id"]] for a in objects]):
        return (
            f"{number} a box of x1, y1, x2, y2: its last two numbers are a corner, where COCO has "
            "x, y, width, height. Write x2 - x1 and y2 - y1 in their place"
            f"{_offer(file, 'sizes', _to_sizes)}."
        )
    flat = [a for a in objects if _is_box_as_polygon(a)]
    if len(flat) >= MOST * len(objects):
        return (
            f"{len(flat)} of {len(file.annotations)} objects of {file.path} have a segmentation of "
            "four numbers: a box in place of a polygon. Take the segmentations out and train on "
            f"boxes alone{_offer(file, 'boxes', _without_segmentation)}, or export masks."
        )
    return None


def _are_shares(boxes: Sequence[Box]) -> bool:
    inside = [box for box in boxes if min(box) >= -0.01 and max(box) <= _SLACK]
    return len(inside) >= MOST * len(boxes) and any(
        not float(value).is_integer() for box in inside for value in box
    )


def _are_centered(boxes: Sequence[Box]) -> bool:
    """Whether boxes fit the image only if x and y are their centers."""
    over = [box for box in boxes if box[0] + box[2] > _SLACK or box[1] + box[3] > _SLACK]
    fitting = [box for box in boxes if all(_fits(box[i], box[i + 2]) for i in (0, 1))]
    return bool(over) and len(fitting) >= MOST * len(boxes)


def _fits(center: float, side: float) -> bool:
    return center - side / 2 >= -0.01 and center + side / 2 <= _SLACK


def _are_corners(objects: Sequence[dict[str, Any]], sizes: Sequence[Size]) -> bool:
    """Whether boxes are x1, y1, x2, y2: they fit as such, and as sizes many do not."""
    as_corners = over = areas = 0
    for annotation, (width, height) in zip(objects, sizes, strict=True):
        x, y, right, bottom = annotation["bbox"]
        if not (x < right <= width + 1 and y < bottom <= height + 1):
            continue
        as_corners += 1
        over += x + right > width + 1 or y + bottom > height + 1
        area = annotation.get("area")
        corner_area, size_area = (right - x) * (bottom - y), right * bottom
        if is_number(area) and abs(corner_area - size_area) > 0.02 * size_area:
            areas += abs(area - corner_area) <= 0.02 * max(area, corner_area)
    if as_corners < MOST * len(objects):
        return False
    return over > SOME * len(objects) or areas >= MOST * len(objects)


def _is_box_as_polygon(annotation: dict[str, Any]) -> bool:
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, list):
        return False
    polygons = [segmentation] if segmentation and is_number(segmentation[0]) else segmentation
    return bool(polygons) and all(isinstance(p, list) and len(p) == 4 for p in polygons)


def _to_pixels(sizes: dict[int, Size], centered: bool) -> Callable[[dict], dict]:
    def change(annotation: dict) -> dict:
        width, height = sizes[annotation["image_id"]]
        x, y, w, h = annotation["bbox"]
        if centered:
            x, y = x - w / 2, y - h / 2
        box = [x * width, y * height, w * width, h * height]
        made = dict(annotation, bbox=box, area=box[2] * box[3])
        polygons = annotation.get("segmentation")
        if isinstance(polygons, list) and polygons and all(map(is_polygon, polygons)):
            scale = (width, height)
            made["segmentation"] = [[v * scale[i % 2] for i, v in enumerate(p)] for p in polygons]
        return made

    return change


def _to_sizes(annotation: dict) -> dict:
    x, y, right, bottom = annotation["bbox"]
    box = [x, y, right - x, bottom - y]
    area = annotation.get("area")
    # An area that an exporter computed from these numbers is wrong too.
    wrong = not is_number(area) or abs(area - right * bottom) <= 0.02 * abs(right * bottom)
    return dict(annotation, bbox=box, area=box[2] * box[3] if wrong else area)


def _without_segmentation(annotation: dict) -> dict:
    return {key: value for key, value in annotation.items() if key != "segmentation"}


def _offer(file: CocoFile, kind: str, change: Callable[[dict], dict]) -> str:
    """Write the corrected copy, and say where it lies; nothing where it cannot be written."""
    sizes = {image["id"] for image in file.images}
    made = [
        change(a) if is_box(a.get("bbox")) and a.get("image_id") in sizes else a
        for a in file.annotations
    ]
    return offer_copy(file, made, kind)


def offer_copy(file: CocoFile, objects: list[dict[str, Any]], kind: str) -> str:
    """Write a copy with other objects and return the words that offer it; none if it cannot be."""
    try:
        copy = write_copy(file.path, dict(file.content, annotations=objects), kind)
    except FileWriteError:
        return ""
    return f" (done in the copy {copy}: look at it and set {file.named} to it)"
