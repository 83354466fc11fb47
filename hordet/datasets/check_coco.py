"""Checks of a COCO annotation file against the classes, the pictures and mmdet's expectations."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from hordet.datasets.errors import Findings, listed

# The share of annotations that may be faulty where mmdet skips or clips the faulty ones. COCO's
# train2017 itself has a box without area among its 860,001.
TOLERATED_SHARE = 0.001
# Annotators click on the border of a picture, which may come out just beyond it.
BORDER = 1.0

# How an annotation may be wrong: (fault, whether mmdet survives it).
NO_AREA = ("have a box with no area", True)
BOX_OUTSIDE = ("have a box outside its picture", True)
MASK_OUTSIDE = ("have a segmentation outside its picture", True)
FEW_POINTS = ("have a polygon that is not at least three x, y pairs", True)
NO_IMAGE = ("have an image_id that no picture has", True)
NO_CATEGORY = ("have a category_id that no category has", True)
RLE_SIZE = ("have an RLE of another size than its picture", False)
NO_MASK = ("have no segmentation, which the pipeline loads (with_mask=True)", False)
MALFORMED = (
    "lack one of id, image_id, category_id, bbox (x, y, width, height), area, or hold no numbers",
    False,
)
REPEATED = ("repeat the id of another annotation", False)


def check_coco(dataset: dict, classes: Sequence[str] | None, *, scored: bool = True) -> Findings:
    """Check a data set in COCO's layout whose data root is there; no picture is opened.

    Args:
        dataset: Config of a data set: data_root, ann_file, data_prefix, filter_cfg, pipeline.
        classes: Names of the classes in the order of their labels; None: any.
        scored: Whether its annotations are used: false for a test set without any.

    Returns:
        What is wrong.
    """
    root = Path(dataset.get("data_root") or ".")
    path = root / dataset.get("ann_file", "")
    if not path.is_file():
        near = sorted(str(file.relative_to(root)) for file in root.glob("*/*.json"))
        there = f"{root} holds {listed(near)}" if near else f"no folder in {root} holds any JSON"
        return Findings([f"There is no annotation file {path}; {there}. Correct ann_file."])
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return Findings([f"Cannot read {path}: {error}. Check that you may read it."])
    except ValueError as error:
        return Findings([f"{path} is no whole JSON file ({error}). Fetch or export it again."])
    wanted = ("images", "categories") + (("annotations",) if scored else ())
    if not isinstance(content, dict) or any(
        not isinstance(content.get(key), list)
        or not all(isinstance(item, dict) for item in content[key])
        for key in wanted
    ):
        got = listed(list(content), 8) if isinstance(content, dict) else type(content).__name__
        return Findings(
            [
                f"{path} is no COCO annotation file: it must be an object with the lists "
                f"{', '.join(wanted)}, got {got}. Convert it to COCO's format."
            ]
        )
    folder = root / ((dataset.get("data_prefix") or {}).get("img") or "")
    faults = [
        *_category_faults(path, content["categories"], classes),
        *_image_faults(path, content["images"], folder),
    ]
    if faults or not scored:
        return Findings(faults)

    categories = {item["id"]: item["name"] for item in content["categories"]}
    images = {item["id"]: item for item in content["images"]}
    with_mask = _loads_masks(dataset.get("pipeline") or [])
    found = _annotation_findings(path, content["annotations"], images, categories, with_mask)
    labels = {key for key, name in categories.items() if classes is None or name in classes}
    if not found.errors:
        found.errors += _emptiness_faults(path, dataset, content["annotations"], images, labels)
    return found


def _category_faults(
    path: Path, categories: list[dict], classes: Sequence[str] | None
) -> Iterator[str]:
    """The classes must be among the categories, in their order: so mmdet numbers its labels."""
    if not all(
        _number(item.get("id")) and isinstance(item.get("name"), str) for item in categories
    ):
        yield f"Some categories of {path} lack an id (a number) or a name. Write these keys."
        return
    if classes is None:
        return
    names = [item["name"] for item in categories]
    cure = (
        "Set metainfo=dict(classes=...) of the data set to names in the file, spelt as there, and "
        "num_classes of the heads to their number."
    )
    absent = [name for name in classes if name not in names]
    if absent:
        how_many = "None" if len(absent) == len(classes) else "Not all"
        yield (
            f"{how_many} of the classes match a category of {path}. Classes of the data set: "
            f"{listed(list(classes), 100)}; not in the file: {listed(absent, 100)}; categories in "
            f"the file: {listed(names, 100) or 'none'}. {cure}"
        )
        return
    order = [name for name in names if name in classes]
    if order != list(classes):
        yield (
            f"The classes stand in another order than the categories of {path}, so labels would "
            f"get wrong names. Classes: {listed(list(classes), 100)}; order in the file: "
            f"{listed(order, 100)}. Put the classes in the order of the file."
        )


def _image_faults(path: Path, images: list[dict], folder: Path) -> Iterator[str]:
    """Each image must have its keys and its file."""
    if not images:
        yield f"{path} lists no image. Use another annotation file."
        return
    lacking = [
        image.get("id", f"number {index}")
        for index, image in enumerate(images)
        if not isinstance(image.get("file_name"), str)
        or not all(_number(image.get(key)) for key in ("id", "height", "width"))
    ]
    if lacking:
        yield (
            f"{len(lacking)} of {len(images)} images in {path} lack one of id, file_name, height, "
            f"width: {listed(lacking)}. Write these keys."
        )
        return
    # One look at each folder: asking for each file takes minutes on network storage.
    names = defaultdict(list)
    for image in images:
        parent, name = os.path.split(os.path.join(folder, image["file_name"]))
        names[parent].append(name)
    missing = []
    for parent, wanted in names.items():
        there = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        missing += [os.path.join(parent, name) for name in wanted if name not in there]
    if missing:
        yield (
            f"{len(missing)} of {len(images)} pictures of {path} are missing: "
            f"{listed(missing, 3)}. Fetch them, or correct data_prefix (img) or the data root."
        )


def _annotation_findings(
    path: Path, annotations: list[dict], images: dict, categories: dict, with_mask: bool
) -> Findings:
    """Look at every annotation; many faults, or ones that would stop mmdet, are errors."""
    ids = defaultdict(list)
    seen = set()
    for index, annotation in enumerate(annotations):
        fault = _annotation_fault(annotation, images, categories, with_mask)
        key = annotation.get("id", f"number {index}")
        if fault is None:
            fault = REPEATED if key in seen else None
            seen.add(key)
        if fault is not None:
            ids[fault].append(key)
    findings = Findings()
    few = sum(map(len, ids.values())) <= TOLERATED_SHARE * len(annotations)
    for (words, survived), keys in ids.items():
        text = (
            f"{len(keys)} of {len(annotations)} annotations in {path} {words}: ids {listed(keys)}."
        )
        if survived and few:
            findings.warnings.append(f"{text} They are skipped or clipped; better correct them.")
        else:
            findings.errors.append(f"{text} Correct them or take them out.")
    return findings


def _annotation_fault(
    annotation: dict, images: dict, categories: dict, with_mask: bool
) -> tuple[str, bool] | None:
    """The first fault of an annotation, None if there is none."""
    box = annotation.get("bbox")
    if (
        not all(_number(annotation.get(key)) for key in ("id", "image_id", "category_id", "area"))
        or not isinstance(box, list)
        or len(box) != 4
        or not all(map(_number, box))
    ):
        return MALFORMED
    image = images.get(annotation["image_id"])
    if image is None:
        return NO_IMAGE
    if annotation["category_id"] not in categories:
        return NO_CATEGORY
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return NO_AREA
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        return BOX_OUTSIDE
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return NO_MASK if with_mask else None
    return _mask_fault(segmentation, image["width"], image["height"])


def _mask_fault(segmentation: list | dict, width: int, height: int) -> tuple[str, bool] | None:
    """The fault of a segmentation, polygons or RLE, in a picture of this size."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        wrong = segmentation.get("size") != [height, width] or not isinstance(counts, str | list)
        if not wrong and isinstance(counts, list):
            wrong = sum(counts) != height * width
        return RLE_SIZE if wrong else None
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return FEW_POINTS
        if not all(map(_number, polygon)):
            return MALFORMED
        xs, ys = polygon[0::2], polygon[1::2]
        if (
            min(xs) < -BORDER
            or min(ys) < -BORDER
            or max(xs) > width + BORDER
            or max(ys) > height + BORDER
        ):
            return MASK_OUTSIDE
    return None


def _emptiness_faults(
    path: Path, dataset: dict, annotations: list[dict], images: dict, labels: set
) -> Iterator[str]:
    """Something must be left to train or score on, after what mmdet filters out."""
    annotated = {item.get("image_id") for item in annotations if item.get("category_id") in labels}
    if not annotated & images.keys():
        yield (
            f"{path} has no annotation of the classes on any of its {len(images)} images: nothing "
            "to train or score on. Use another annotation file or other classes."
        )
        return
    options = dataset.get("filter_cfg") or {}
    if dataset.get("test_mode") or not options:
        return
    left = [
        key
        for key, image in images.items()
        if min(image["height"], image["width"]) >= options.get("min_size", 0)
        and (key in annotated or not options.get("filter_empty_gt", False))
    ]
    if not left:
        yield (
            f"None of the {len(images)} images of {path} is left after filter_cfg={dict(options)}. "
            "Lower min_size (shorter side, pixels) or use other data."
        )


def _loads_masks(pipeline: Sequence[dict]) -> bool:
    """Whether a pipeline loads instance masks."""
    return any(isinstance(step, dict) and step.get("with_mask", False) for step in pipeline)


def _number(value: object) -> bool:
    """Whether a value read from JSON is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
