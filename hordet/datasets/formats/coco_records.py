"""COCO's annotation files and result files as records, and records as the content of one file."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hordet.datasets.formats.coco import (
    CocoFile,
    is_box,
    is_number,
    is_polygon,
    is_run_lengths,
    is_size,
    read_coco,
    read_json,
    spell_path,
)
from hordet.datasets.formats.image_index import name_split, normalize
from hordet.datasets.formats.image_paths import find_image_folder
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
)
from hordet.datasets.formats.rings import draw_rings, find_bounds, find_mask_bounds, measure_area
from hordet.errors import DatasetError

# What a command that converts takes: the file, and where its images are.
_NAMED = "DATA (with --images)"


def read_coco_records(
    paths: Sequence[Path], root: Path, results: Path | None = None
) -> AnnotatedData:
    """Read COCO annotation files, each a split if its name says so.

    Args:
        paths: The files. Categories of one name are one class.
        root: Folder of the data; images are looked for there and two levels below.
        results: COCO's result file, whose detections are taken in place of the annotations.

    Raises:
        DatasetError: A file cannot be read, or its objects have a fault as a whole, such as corners
            in place of sizes. Converted, it could no longer be recognized.
    """
    account = Account()
    classes: dict[str, int] = {}
    images: list[AnnotatedImage] = []
    splits = [name_split(path.stem) or name_split(path.parent.name) for path in paths]
    for path, split in zip(paths, splits, strict=True):
        file = read_coco(path, root, scored=results is None, named=_NAMED)
        names = [i["file_name"] for i in file.images if isinstance(i.get("file_name"), str)]
        place = find_image_folder(root, path, names, split or "train")
        folder = ""
        if place is not None:
            file = read_coco(path, root, scored=results is None, named=_NAMED, folder=place)
            folder = os.path.relpath(place, root).replace(os.sep, "/")
        for note in file.notes:
            account.note(f"annotation files: {note.rstrip('.')}", "", path.name)
        if results is None:
            _refuse_systematic_fault(file)
        objects = file.annotations if results is None else _read_results(results)
        _read_file(file, objects, folder, split, classes, images, account)
    ids = [*classes.values()] if len({*classes.values()}) == len(classes) else None
    layout = "COCO" if results is None else "COCO results"
    return AnnotatedData(layout, root, [*classes], images, account, ids)


def _refuse_systematic_fault(file: CocoFile) -> None:
    from hordet.datasets.checks.box_forms import gather_objects
    from hordet.datasets.checks.coco import find_category_faults, find_entry_faults
    from hordet.datasets.checks.systematic import find_systematic_fault

    if any(find_category_faults(file.path, file.categories)):
        return  # `_read_file` says so
    if any(find_entry_faults(file.path, file.images)):
        return  # such images are left out
    if fault := find_systematic_fault(file, gather_objects(file)):
        raise DatasetError(fault)


def _read_results(path: Path) -> list[dict[str, Any]]:
    content, _ = read_json(path)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise DatasetError(f"{path} is not a COCO result file: it must hold a list of detections.")
    return content


def _read_file(
    file: CocoFile,
    objects: Sequence[dict[str, Any]],
    folder: str,
    split: str | None,
    classes: dict[str, int],
    images: list[AnnotatedImage],
    account: Account,
) -> None:
    names: dict[Any, str] = {}
    for category in file.categories:
        name, number = str(category.get("name", "")).strip(), category.get("id")
        if not name or not isinstance(number, int):
            raise DatasetError(
                f"Some categories of {file.path} lack an id (a number) or a name. Write them."
            )
        names[number] = name
        classes.setdefault(name, number)
    by_id: dict[Any, AnnotatedImage] = {}
    for entry in file.images:
        stated = None
        if isinstance(entry.get("file_name"), str) and entry["file_name"].strip():
            stated = normalize(PurePosixPath(folder), spell_path(entry["file_name"]))
        if stated is None:
            account.note(
                f"images of {file.path.name} have no file_name, or one that leads out of the data "
                "folder, and are left out",
                "Write paths from the folder of the images.",
                str(entry.get("file_name")),
            )
            continue
        if not all(is_size(entry.get(key)) for key in ("width", "height")):
            account.note(
                f"images of {file.path.name} have no width and height and cannot be opened; they "
                "are left out",
                "Write them, or put the images there.",
                stated,
            )
            continue
        image = AnnotatedImage(stated, entry["width"], entry["height"], split=split)
        by_id[_hashable(entry.get("id"))] = image
        images.append(image)
    for number, each in enumerate(objects):
        account.found += 1
        place = f"{file.path.name}: object {each.get('id', number)}"
        image = by_id.get(_hashable(each.get("image_id")))  # type: ignore[assignment]
        if image is None:
            account.drop("their image_id is that of no image", "Correct it.", place)
            continue
        label = names.get(_hashable(each.get("category_id")))
        if label is None:
            account.drop("their category_id is that of no category", "Correct it.", place)
            continue
        item = _read_object(each, label, image, account, place)
        if item is not None:
            image.add(item, account, place)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _read_object(
    each: dict[str, Any], label: str, image: AnnotatedImage, account: Account, place: str
) -> AnnotatedObject | None:
    segmentation, box = each.get("segmentation"), each.get("bbox")
    item = AnnotatedObject(label, (0.0, 0.0, 0.0, 0.0), is_crowd=bool(each.get("iscrowd")))
    item.is_difficult = bool(each.get("difficult"))
    if isinstance(segmentation, list):
        if is_polygon(segmentation):
            segmentation = [segmentation]
        item.outlines = [[float(v) for v in ring] for ring in segmentation if is_polygon(ring)]
        if len(item.outlines) < len(segmentation):
            account.note(
                "polygons have fewer than three points and are left out", "Draw them again.", place
            )
    elif isinstance(segmentation, dict):
        item.mask = _compress(segmentation, (image.height, image.width))
        if item.mask is None:
            account.drop(
                "run lengths that are damaged, or not of their image's size",
                "Export them again.",
                place,
            )
            return None
    if is_number(each.get("score")):
        item.score = float(each["score"])
    if is_box(box):
        x, y, width, height = map(float, box)  # type: ignore[arg-type]
        item.box = (x, y, width, height)
    elif item.outlines:
        item.box = find_bounds(item.outlines)
    elif item.mask:
        item.box = find_mask_bounds(item.mask)
    return item


def _compress(mask: dict[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    """Return run lengths with counts as str, or None if they are damaged."""
    from pycocotools import mask as coco_mask

    if not is_run_lengths(mask, size):
        return None
    if isinstance(mask["counts"], list):
        runs = coco_mask.frPyObjects(mask, *size)
        return dict(size=list(size), counts=runs["counts"].decode())
    return dict(size=list(size), counts=mask["counts"])


def make_coco(
    data: AnnotatedData, images: Sequence[AnnotatedImage], account: Account, start: str = ""
) -> dict[str, Any]:
    """Return the content of a COCO annotation file.

    Args:
        data: For its classes, which become the categories in their order.
        images: The images that the file lists, by default their names from the root.
        account: Takes what COCO cannot hold.
        start: Put before the names of images, such as '../data/'.
    """
    ids = data.class_ids or [*range(1, len(data.classes) + 1)]
    numbers = dict(zip(data.classes, ids, strict=True))
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        image_id = len(entries) + 1
        entry = dict(id=image_id, file_name=start + image.name)
        entries.append(entry | dict(width=image.width, height=image.height))
        for item in image.objects:
            new: dict[str, Any] = dict(
                id=len(annotations) + 1, image_id=image_id, category_id=numbers[item.label]
            )
            new |= dict(bbox=list(item.box), iscrowd=int(item.is_crowd))
            new["area"] = item.box[2] * item.box[3]
            if item.mask or item.holes:
                _add_mask(new, item, image, account)
            elif item.outlines:
                new["segmentation"] = item.outlines
                new["area"] = sum(abs(measure_area(ring)) for ring in item.outlines)
            if item.score is not None:
                new["score"] = item.score
            if item.is_difficult:
                new["difficult"] = 1
            annotations.append(new)
    categories = [dict(id=numbers[name], name=name) for name in data.classes]
    return dict(images=entries, annotations=annotations, categories=categories)


def _add_mask(
    new: dict[str, Any], item: AnnotatedObject, image: AnnotatedImage, account: Account
) -> None:
    from pycocotools import mask as coco_mask

    mask = item.mask
    if mask is None:
        account.note(
            "objects have holes, for which COCO's polygons have no word: their masks are run "
            "lengths of whole pixels",
            "",
            image.name,
        )
        mask = draw_rings(item.outlines, item.holes, (image.height, image.width))
    new["segmentation"] = mask
    new["area"] = float(coco_mask.area(mask))


def find_twins(classes: Sequence[str]) -> list[str]:
    """Return the classes that differ in their spelling alone, as 'Car and car'."""
    from hordet.datasets.checks.coco import fold_name

    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(fold_name(name), []).append(name)
    return [" and ".join(names) for names in alike.values() if len(names) > 1]
