"""Checks of a COCO annotation file against the classes, the images and mmdet's expectations."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from hordet.datasets.checks.findings import Findings
from hordet.datasets.formats.coco import (
    find_category_faults,
    find_image_faults,
    is_number,
    read_coco,
)
from hordet.errors import list_first

# The share of annotations that may be faulty where mmdet skips or clips the faulty ones. COCO's
# train2017 itself has a box without area among its 860,001.
TOLERATED_SHARE = 0.001
# Annotators click on the border of an image, which may come out just beyond it.
BORDER = 1.0

# How an annotation may be wrong: (fault, whether mmdet survives it).
NO_AREA = ("have a box with no area", True)
BOX_OUTSIDE = ("have a box outside its image", True)
MASK_OUTSIDE = ("have a segmentation outside its image", True)
FEW_POINTS = ("have a polygon that is not at least three x, y pairs", True)
NO_IMAGE = ("have an image_id that no image has", True)
NO_CATEGORY = ("have a category_id that no category has", True)
RLE_SIZE = ("have an RLE of another size than its image", False)
NO_MASK = ("have no segmentation, which the pipeline loads (with_mask=True)", False)
MALFORMED = (
    "lack one of id, image_id, category_id, bbox (x, y, width, height), area, or hold no numbers",
    False,
)
REPEATED = ("repeat the id of another annotation", False)


def check_coco(dataset: dict, classes: Sequence[str] | None, *, scored: bool = True) -> Findings:
    """Check a data set in COCO's layout whose data root is there; no image is opened.

    Args:
        dataset: Config of a data set: data_root, ann_file, data_prefix, filter_cfg, pipeline.
        classes: Names of the classes in the order of their labels; None: any.
        scored: Whether its annotations are used: false for a test set without any.

    Returns:
        What is wrong.
    """
    root = Path(dataset.get("data_root") or ".")
    path = root / dataset.get("ann_file", "")
    content = read_coco(path, root, scored)
    if isinstance(content, str):
        return Findings([content])
    folder = root / ((dataset.get("data_prefix") or {}).get("img") or "")
    faults = [
        *find_category_faults(path, content["categories"], classes),
        *find_image_faults(path, content["images"], folder),
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
            f"{len(keys)} of {len(annotations)} annotations in {path} {words}: "
            f"ids {list_first(keys)}."
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
        not all(is_number(annotation.get(key)) for key in ("id", "image_id", "category_id", "area"))
        or not isinstance(box, list)
        or len(box) != 4
        or not all(map(is_number, box))
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
    """The fault of a segmentation, polygons or RLE, in an image of this size."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        wrong = segmentation.get("size") != [height, width] or not isinstance(counts, str | list)
        if not wrong and isinstance(counts, list):
            wrong = sum(counts) != height * width
        return RLE_SIZE if wrong else None
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return FEW_POINTS
        if not all(map(is_number, polygon)):
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
