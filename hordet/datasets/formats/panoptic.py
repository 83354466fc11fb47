"""COCO's panoptic layout: writing that of generated shapes, checking that of a config's data.

The annotation file lists images, categories with `isthing`, and for each image its segments: id,
category_id, bbox, area, iscrowd. A map beside each image, a PNG, says which segment a pixel
belongs to: R + 256 G + 256^2 B is its id, or 0.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from hordet.datasets.checks.entries import (
    find_category_faults,
    find_image_faults,
    find_order_faults,
)
from hordet.datasets.checks.findings import Findings
from hordet.datasets.formats.coco import CocoFile, find_missing_files, is_number, read_coco
from hordet.datasets.plain_copies import write_copy
from hordet.errors import DatasetError, list_first


def list_panoptic_categories(things: Sequence[str], stuff: Sequence[str]) -> list[dict]:
    """The categories of a panoptic file, with ids from 1: things, then stuff."""
    return [
        dict(id=index + 1, name=name, supercategory="shape", isthing=int(index < len(things)))
        for index, name in enumerate((*things, *stuff))
    ]


def describe_segments(
    objects: np.ndarray, labels: Sequence[int], background: int
) -> tuple[np.ndarray, list[dict]]:
    """The image of segment ids and the description of each segment.

    Args:
        objects: Which object each pixel shows, (height, width), uint8: 0 = background, k + 1 =
            object k.
        labels: Class index of each object.
        background: Class index of the background.

    Returns:
        (height, width, 3) uint8 in BGR, and COCO's `segments_info`; category ids are class
        indices + 1.
    """
    # Id 0 is for pixels of no segment, so the background comes last.
    ids = np.where(objects == 0, len(labels) + 1, objects).astype(np.uint8)
    segments = []
    for index, label in enumerate((*labels, background)):
        rle = coco_mask.encode(np.asfortranarray(ids == index + 1, np.uint8))
        segments.append(
            dict(
                id=index + 1,
                category_id=int(label) + 1,
                bbox=[float(value) for value in coco_mask.toBbox(rle)],
                area=int(coco_mask.area(rle)),
                iscrowd=0,
            )
        )
    return np.dstack([np.zeros_like(ids), np.zeros_like(ids), ids]), segments


def check_panoptic(
    dataset: dict, classes: Sequence[str] | None, *, scored: bool = True
) -> Findings:
    """Check a data set in COCO's panoptic layout whose data root is there; no map is opened.

    Args:
        dataset: Config of a data set: data_root, ann_file, data_prefix (img, seg).
        classes: Names of things and stuff in the order of their labels; None: any.
        scored: Whether its annotations are used: false for a test set without any.

    Returns:
        What is wrong.
    """
    root = Path(dataset.get("data_root") or ".")
    path = root / dataset.get("ann_file", "")
    prefix = dataset.get("data_prefix") or {}
    folder = root / (prefix.get("img") or "")
    try:
        file = read_coco(path, root, scored, folder)
    except DatasetError as error:
        return Findings([str(error)])
    faults = [
        *find_category_faults(path, file.categories),
        *find_image_faults(file, folder, root),
    ]
    if not faults:
        faults += find_order_faults(path, file.categories, classes)
    if scored and not faults:
        faults += _segment_faults(path, file.content)
        faults += _map_faults(path, file.images, root / (prefix.get("seg") or ""))
    return Findings(faults, list(file.notes), _copy_if_needed(file) if not faults else None)


def _copy_if_needed(file: CocoFile) -> str | None:
    return None if file.plain else str(write_copy(file.path, file.content, "plain"))


def _segment_faults(path: Path, content: dict) -> Iterator[str]:
    """Categories must say which are things, annotations must list segments of known ones."""
    categories = content["categories"]
    if any(category.get("isthing") not in (0, 1) for category in categories):
        yield (
            f"Some categories of {path} lack isthing, 0 or 1. It is not a panoptic file; ann_file "
            "must name one, such as annotations/panoptic_train2017.json."
        )
        return
    images = {image["id"] for image in content["images"]}
    known = {category["id"] for category in categories}
    wrong = [
        annotation.get("image_id", f"number {index}")
        for index, annotation in enumerate(content["annotations"])
        if annotation.get("image_id") not in images
        or not isinstance(annotation.get("segments_info"), list)
        or not all(_is_segment(segment, known) for segment in annotation["segments_info"])
    ]
    if wrong:
        yield (
            f"{len(wrong)} of {len(content['annotations'])} annotations in {path} are of no image, "
            "or a segment lacks one of id, area, bbox (x, y, width, height) and a category_id "
            f"that a category has: image_id {list_first(wrong)}. Correct them or take them out."
        )
    if not any(annotation.get("segments_info") for annotation in content["annotations"]):
        yield f"{path} has no segment: nothing to train or score on. Use another file."


def _is_segment(segment: dict, categories: set) -> bool:
    """Whether a segment has what mmdet reads of it."""
    box = segment.get("bbox")
    return (
        all(is_number(segment.get(key)) for key in ("id", "area"))
        and segment.get("category_id") in categories
        and isinstance(box, list)
        and len(box) == 4
        and all(map(is_number, box))
    )


def _map_faults(path: Path, images: list[dict], folder: Path) -> Iterator[str]:
    """Each image must have its map; mmdet names it after the image."""
    names = [image["file_name"].replace(".jpg", ".png") for image in images]
    missing = find_missing_files(folder, names)
    if missing:
        yield (
            f"{len(missing)} of {len(names)} panoptic maps of {path} are missing: "
            f"{list_first(missing, 3)}. Unpack them, or correct data_prefix (seg) or the data root."
        )
