"""Checks of a COCO annotation file against the classes, the images and mmdet's expectations."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from hordet.datasets.checks.box_forms import BORDER, gather_objects
from hordet.datasets.checks.coco_masks import find_mask_faults
from hordet.datasets.checks.entries import (
    IMAGE_KEYS,
    describe_absent,
    find_category_faults,
    find_cut_images,
    find_entry_faults,
    find_image_faults,
    find_narrow_images,
)
from hordet.datasets.checks.findings import Findings
from hordet.datasets.checks.systematic import find_systematic_fault, offer_copy
from hordet.datasets.detection_limits import explain_limit
from hordet.datasets.formats.coco import (
    CocoFile,
    count_objects,
    has_mask,
    is_box,
    is_coordinate,
    is_id,
    is_number,
    is_run_lengths,
    read_coco,
)
from hordet.datasets.plain_copies import fit_annotations, write_copy
from hordet.errors import DatasetError, list_first

# The share of annotations that may be faulty where mmdet skips or clips the faulty ones. COCO's
# train2017 itself has a box without area among its 860,001.
TOLERATED_SHARE = 0.001
_TOLERATED = "They are skipped or clipped; better correct them."
# Of objects that are crowds; COCO itself has 1 %. More come from a brush whose exporter knows no
# other way to write run lengths.
CROWD_SHARE = 0.1

# How an object may be wrong: (fault, whether mmdet survives it).
NO_AREA = ("have a box with no area", True)
BOX_OUTSIDE = ("have a box outside its image", True)
MASK_OUTSIDE = ("have a segmentation outside its image", True)
FEW_POINTS = ("have a polygon that is not at least three x, y pairs", True)
NO_IMAGE = ("have an image_id that no image has", True)
NO_CATEGORY = ("have a category_id that no category has", True)
RLE_SIZE = ("have an RLE of another size than its image", False)
RLE_COUNTS = ("have run lengths (counts) that are damaged or do not fill their image", False)
TEXT = ("have text where id, image_id or category_id must be a whole number", False)
MALFORMED = (
    "lack one of id, image_id, category_id, bbox (x, y, width, height), area, iscrowd (0 or 1), or "
    "hold no numbers",
    False,
)
MASK_FORM = (
    "have a segmentation that is neither polygons (each a flat list of numbers x, y, x, y, ...) "
    "nor run lengths",
    False,
)
REPEATED = ("repeat the id of another annotation", False)


def check_coco(
    dataset: dict,
    classes: Sequence[str] | None,
    *,
    scored: bool = True,
    needed: Collection[str] | None = None,
    with_mask: bool | None = None,
    limit: tuple[str, int] | None = None,
    named: str = "ann_file",
) -> Findings:
    """Check a data set in COCO's layout whose data root is there; no image is decoded.

    Args:
        dataset: Config of a data set: data_root, ann_file, data_prefix, filter_cfg, pipeline.
        classes: Names of the classes in the order of their labels; None: any.
        scored: Whether its annotations are used: false for a test set without any.
        needed: The classes that this file must have, such as all for the one file of a training;
            all by default.
        with_mask: Whether masks are loaded or scored; by default what the pipeline says.
        limit: Key and number of the detections that the model gives of an image.
        named: What names the annotation file, a setting or an option.

    Returns:
        What is wrong, and the copy that a run must read where the file is not plain.
    """
    root = Path(dataset.get("data_root") or ".")
    path = root / dataset.get("ann_file", "")
    folder = root / ((dataset.get("data_prefix") or {}).get("img") or "")
    try:
        file = read_coco(path, root, scored, folder, named)
    except DatasetError as error:
        return Findings([str(error)])
    found = Findings(
        [*find_category_faults(path, file.categories)] + [*find_image_faults(file, folder, root)],
        list(file.notes),
    )
    if not found.errors:
        names = [item["name"] for item in file.categories]
        found.errors += find_class_faults(path, names, classes or (), needed)
    if not found.errors:
        found.errors += find_narrow_images(path, file.images, dataset.get("pipeline") or [])
    if not found.errors and dataset.get("test_mode"):
        found.errors += find_cut_images(folder, [image["file_name"] for image in file.images])
    if with_mask is None:
        with_mask = loads_masks(dataset.get("pipeline") or [])
    if not found.errors and scored:
        _check_objects(found, file, dataset, classes, with_mask, limit)
    if not found.errors:
        content, plain = fit_annotations(file, classes, with_mask and scored)
        found.copy = None if plain else str(write_copy(path, content, "plain"))
    return found


def find_class_faults(
    path: Path, names: Sequence[str], classes: Sequence[str], needed: Collection[str] | None
) -> Iterator[str]:
    """Classes are found by their names; one that is spelled another way must not get lost.

    Args:
        path: The annotation file.
        names: Of its categories.
        classes: Names that are wanted.
        needed: Those without which the file is of no use; None: all.
    """
    absent = [name for name in classes if name not in names]
    if not absent:
        return
    strange = {fold_name(name) for name in names if name not in classes}
    misspelled = [name for name in absent if fold_name(name) in strange]
    lost = [name for name in absent if needed is None or name in needed]
    if len(absent) == len(classes) or misspelled or lost:
        yield describe_absent(path, names, classes, absent)


def fold_name(name: str) -> str:
    """Return a name without what people spell in several ways: case, blanks and dashes."""
    return "".join(name.casefold().replace("-", " ").replace("_", " ").split())


def _check_objects(
    found: Findings,
    file: CocoFile,
    dataset: dict,
    classes: Sequence[str] | None,
    with_mask: bool,
    limit: tuple[str, int] | None,
) -> None:
    """Look at every object, and at what is left of them; add what is found."""
    _judge_objects(found, file, _TOLERATED)
    if found.errors:
        return
    categories = {item["id"]: item["name"] for item in file.categories}
    images = {item["id"]: item for item in file.images}
    labels = {key for key, name in categories.items() if classes is None or name in classes}
    if with_mask:
        check_masks(found, file)
    found.warnings += _extra_categories(file, labels)
    _check_crowds(found, file, trains=not dataset.get("test_mode"))
    if limit and dataset.get("test_mode"):
        found.warnings += filter(None, [explain_limit(file.path, file.annotations, labels, limit)])
    if not found.errors:
        found.errors += _emptiness_faults(file.path, dataset, file.annotations, images, labels)


def check_file(
    file: CocoFile, *, needed: Collection[str] = IMAGE_KEYS, tolerated: str = _TOLERATED
) -> Findings:
    """Check an annotation file by itself: without its images, and whatever it is read for.

    Args:
        file: The file.
        needed: What of `IMAGE_KEYS` each image must have.
        tolerated: What is said of a few faulty objects that stop nothing.
    """
    found = Findings(
        [*find_category_faults(file.path, file.categories)]
        + [*find_entry_faults(file.path, file.images, needed)],
        list(file.notes),
    )
    if not found.errors:
        _judge_objects(found, file, tolerated)
    return found


def _judge_objects(found: Findings, file: CocoFile, tolerated: str) -> None:
    """Judge the objects of a file by themselves, as every command does; add what is found."""
    objects = gather_objects(file)
    if fault := find_systematic_fault(file, objects):
        found.errors.append(fault)  # one by one they would be said as often as there are objects
        return
    images = {image["id"]: image for image in file.images}
    categories = {item["id"]: item["name"] for item in file.categories}
    single = _object_findings(file, images, categories, tolerated)
    compared = find_mask_faults(file, objects)
    found.errors += single.errors + compared.errors
    found.warnings += single.warnings + compared.warnings


def _object_findings(
    file: CocoFile, images: dict, categories: dict, tolerated: str = _TOLERATED
) -> Findings:
    """Look at every annotation; many faults, or ones that would stop mmdet, are errors.

    Args:
        file: An annotation file whose images and categories are without faults.
        images: Its images by id; one without a size has no border, and masks there are not read.
        categories: Something for each category by id.
        tolerated: What is said of a few faulty ones that stop nothing.
    """
    path, annotations = file.path, file.annotations
    ids = defaultdict(list)
    seen = set()
    for index, annotation in enumerate(annotations):
        fault = _annotation_fault(annotation, images, categories)
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
            findings.warnings.append(f"{text} {tolerated}")
        elif words == TEXT[0]:
            findings.errors.append(f"{text} Number images, objects and categories.")
        else:
            findings.errors.append(f"{text} Correct them or take them out.")
    return findings


def _annotation_fault(annotation: dict, images: dict, categories: dict) -> tuple[str, bool] | None:
    """The first fault of an annotation, None if there is none."""
    numbers = [annotation.get(key) for key in ("id", "image_id", "category_id")]
    if any(isinstance(number, str) for number in numbers):
        return TEXT
    box = annotation.get("bbox")
    if (
        not all(map(is_id, numbers))
        or not is_number(annotation.get("area"))
        or annotation.get("iscrowd") not in (0, 1)
        or box is None
        or not is_box(box)
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
    sides = image.get("width"), image.get("height")
    if None in sides:
        return None
    if x >= sides[0] or y >= sides[1] or x + width <= 0 or y + height <= 0:
        return BOX_OUTSIDE
    segmentation = annotation.get("segmentation")
    return _mask_fault(segmentation, *sides) if segmentation else None


def _mask_fault(segmentation: object, width: int, height: int) -> tuple[str, bool] | None:
    """The fault of a segmentation, polygons or RLE, in an image of this size."""
    if isinstance(segmentation, dict):
        if is_run_lengths(segmentation, (height, width)):
            return None
        return RLE_COUNTS if segmentation.get("size") == [height, width] else RLE_SIZE
    if not isinstance(segmentation, list):
        return MASK_FORM
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return FEW_POINTS
        if not all(map(is_coordinate, polygon)):
            return MASK_FORM
        xs, ys = polygon[0::2], polygon[1::2]
        if (
            min(xs) < -BORDER
            or min(ys) < -BORDER
            or max(xs) > width + BORDER
            or max(ys) > height + BORDER
        ):
            return MASK_OUTSIDE
    return None


def check_masks(found: Findings, file: CocoFile) -> None:
    """Objects without a mask are named, and left out; there must be others."""
    without = [a["id"] for a in file.annotations if not has_mask(a)]
    if not without:
        return
    text = (
        f"{len(without)} of {len(file.annotations)} objects in {file.path} have no segmentation, "
        f"which the pipeline loads (with_mask=True) or the metric scores: ids {list_first(without)}"
    )
    boxes = "or train on boxes alone (with_mask=False, a model without masks, metric='bbox')"
    if len(without) == len(file.annotations):
        found.errors.append(f"{text}. Use annotations with masks, {boxes}.")
    else:
        found.warnings.append(f"{text}. They are left out; annotate their masks, {boxes}.")


def _extra_categories(file: CocoFile, labels: set) -> Iterator[str]:
    """Categories that no class is named after: their objects are no truth for anything."""
    numbers: dict[str, int] = {}
    names = {item["id"]: item["name"] for item in file.categories}
    for annotation in file.annotations:
        key = annotation["category_id"]
        if key not in labels and key in names:
            numbers[names[key]] = numbers.get(names[key], 0) + 1
    if numbers and labels:
        shown = list_first([f"{name} ({number} objects)" for name, number in numbers.items()], 10)
        yield (
            f"{file.path} has categories that are none of the classes: {shown}. Their objects are "
            "left out; add them to the classes if they are meant."
        )


def _check_crowds(found: Findings, file: CocoFile, trains: bool) -> None:
    """A brush's masks are often exported as crowds, of which nothing is learned."""
    crowds = count_objects(file.annotations).crowds
    if crowds > CROWD_SHARE * len(file.annotations):
        nothing_left = trains and crowds == len(file.annotations)
        (found.errors if nothing_left else found.warnings).append(describe_crowds(file))


def describe_crowds(file: CocoFile) -> str:
    """Say how many objects are crowds, and write the copy in which each is an object.

    Args:
        file: An annotation file.
    """
    crowds = count_objects(file.annotations).crowds
    plain = [dict(annotation, iscrowd=0) for annotation in file.annotations]
    offered = offer_copy(file, plain, "objects")
    return (
        f"{crowds} of {len(file.annotations)} objects in {file.path} are iscrowd=1, which training "
        f"leaves out and the metric does not ask for. If each is one object, write iscrowd=0"
        f"{offered}."
    )


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


def loads_masks(pipeline: Sequence[dict]) -> bool:
    """Whether a pipeline loads instance masks."""
    return any(isinstance(step, dict) and step.get("with_mask", False) for step in pipeline)
