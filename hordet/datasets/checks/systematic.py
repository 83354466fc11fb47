"""Faults of a whole annotation file: an exporter's habit, said once with the cure.

Found one by one they would be hundreds of boxes outside their images, and no word of why.
"""

from typing import Any

import numpy as np

from hordet.datasets.checks.box_forms import MOST, SHARES, Habit, Objects, are_small, find_habit
from hordet.datasets.formats.coco import CocoFile, is_box, is_number, is_polygon
from hordet.datasets.plain_copies import write_copy
from hordet.errors import FileWriteError


def find_systematic_fault(file: CocoFile, objects: Objects) -> str | None:
    """Say what is wrong with the objects of a file as a whole; None if there is no such habit.

    A corrected copy is written to the cache, and the sentence names it.

    Args:
        file: An annotation file whose images and categories are without faults.
        objects: Its objects, without those of an image without a size.
    """
    habit = find_habit(objects)
    if habit is not None:
        polygons = "; the masks likewise" if habit.scale_masks else ""
        return (
            f"{len(habit.places)} of {len(file.annotations)} objects of {file.path} have a box "
            f"{habit.form.words}. {habit.form.cure}{polygons}"
            f"{offer_copy(file, _convert(file, objects, habit), habit.form.name)}."
        )
    if len(objects) > 1 and are_small(objects.masks):
        scaled = Habit(SHARES[0], objects.places, scale_masks=True)
        made = [
            dict(new, bbox=old["bbox"], area=old.get("area"))
            for old, new in zip(file.annotations, _convert(file, objects, scaled), strict=True)
        ]
        return (
            f"{int(objects.has_mask.sum())} of {len(file.annotations)} objects of {file.path} have "
            "a mask between 0 and 1, shares of the image's sides, and a box in pixels. Multiply x "
            f"by the image's width, y by its height{offer_copy(file, made, 'pixels')}."
        )
    flat = [a for a in file.annotations if is_box(a.get("bbox")) and _is_box_as_polygon(a)]
    if len(objects) > 1 and len(flat) >= MOST * len(objects):
        plain = [_without_segmentation(a) for a in file.annotations]
        return (
            f"{len(flat)} of {len(file.annotations)} objects of {file.path} have a segmentation of "
            "four numbers: a box in place of a polygon. Take the segmentations out and train on "
            f"boxes alone{offer_copy(file, plain, 'boxes')}, or export masks."
        )
    return None


def _convert(file: CocoFile, objects: Objects, habit: Habit) -> list[dict[str, Any]]:
    """Return the objects of a file with COCO's boxes."""
    chosen = objects.pick(np.isin(objects.places, habit.places))
    made = [*file.annotations]
    boxes = habit.form.read(chosen.boxes, chosen.sizes)
    for number, place in enumerate(chosen.places):
        old = file.annotations[place]
        new = made[place] = dict(old, bbox=boxes[number].tolist())
        x, y, width, height = chosen.boxes[number]
        area = chosen.areas[number]
        # An area that an exporter computed from these numbers is wrong too.
        wrong = np.isnan(area) or abs(area - width * height) <= 0.02 * abs(width * height)
        if chosen.mask_areas[number] > 0 and not habit.scale_masks:
            new["area"] = float(chosen.mask_areas[number]) if wrong else old["area"]
        elif wrong or habit.form.unit is not None:
            new["area"] = float(boxes[number, 2] * boxes[number, 3])
        polygons = old.get("segmentation")
        if habit.scale_masks and isinstance(polygons, list) and all(map(is_polygon, polygons)):
            scale = chosen.sizes[number] / (habit.form.unit or 1.0)
            new["segmentation"] = [
                [float(v * scale[i % 2]) for i, v in enumerate(p)] for p in polygons
            ]
    return made


def _is_box_as_polygon(annotation: dict[str, Any]) -> bool:
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, list):
        return False
    polygons = [segmentation] if segmentation and is_number(segmentation[0]) else segmentation
    return bool(polygons) and all(isinstance(p, list) and len(p) == 4 for p in polygons)


def _without_segmentation(annotation: dict) -> dict:
    return {key: value for key, value in annotation.items() if key != "segmentation"}


def offer_copy(file: CocoFile, objects: list[dict[str, Any]], kind: str) -> str:
    """Write a copy with other objects and return the words that offer it; none if it cannot be."""
    try:
        copy = write_copy(file.path, dict(file.content, annotations=objects), kind)
    except FileWriteError:
        return ""
    return f" (done in the copy {copy}: look at it and set {file.named} to it)"
