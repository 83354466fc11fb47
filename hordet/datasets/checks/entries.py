"""Checks of what COCO's files of instances and of panoptic segments share: categories, images."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from hordet.datasets.formats.coco import (
    CocoFile,
    find_missing_files,
    find_repeated,
    is_id,
    is_size,
)
from hordet.datasets.formats.image_paths import propose_names
from hordet.datasets.images import find_cut_files
from hordet.errors import list_first

# What an image must have beside its id, and what is true of a right value.
IMAGE_KEYS: dict[str, Callable[[object], bool]] = {
    "file_name": lambda value: isinstance(value, str) and bool(value),
    "height": is_size,
    "width": is_size,
}

# What exporters call file_name.
_OTHER_NAMES = ("filename", "path", "file", "name", "fileName")


def find_category_faults(path: Path, categories: list[dict]) -> Iterator[str]:
    """Each category must have an id and a name of its own."""
    texts = [item["id"] for item in categories if isinstance(item.get("id"), str)]
    if texts:
        yield (
            f"{len(texts)} of {len(categories)} categories of {path} have text as id: "
            f"{list_first([repr(text) for text in texts])}. COCO's ids are whole numbers: number "
            "the categories, and write the same numbers as category_id."
        )
        return
    names = [item.get("name") for item in categories]
    named = all(isinstance(name, str) and name.strip() for name in names)
    if not named or not all(is_id(item.get("id")) for item in categories):
        yield f"Some categories of {path} lack an id (a number) or a name. Write these keys."
        return
    for key in ("id", "name"):
        twice = find_repeated(item[key] for item in categories)
        if twice:
            shown = list_first(twice)
            yield f"{path} has several categories of one {key}: {shown}. Give each its own."


def find_image_faults(file: CocoFile, folder: Path, root: Path) -> Iterator[str]:
    """Each image must have its keys and its file."""
    faults = [*find_entry_faults(file.path, file.images)]
    yield from faults
    if faults:
        return
    missing = find_missing_files(folder, [image["file_name"] for image in file.images])
    if missing:
        yield (
            f"{len(missing)} of {len(file.images)} images of {file.path} are missing: "
            f"{list_first(missing, 3)}. {propose_names(file, folder, root)}"
        )


def find_entry_faults(
    path: Path, images: list[dict], needed: Collection[str] = IMAGE_KEYS
) -> Iterator[str]:
    """Each image must have keys of its own.

    Args:
        path: The annotation file.
        images: Its entries.
        needed: What of `IMAGE_KEYS` each must have beside its id; the others may be absent.
    """
    if not images:
        yield f"{path} lists no image. Use another annotation file."
        return
    texts = [i for i in images if any(isinstance(i.get(k), str) for k in ("id", "height", "width"))]
    if texts:
        keys = [k for k in ("id", "height", "width") if isinstance(texts[0].get(k), str)]
        shown = ", ".join(f"{key}={texts[0][key]!r}" for key in keys)
        yield (
            f"{len(texts)} of {len(images)} images in {path} have text where {', '.join(keys)} "
            f"must be a whole number: {shown}. Write numbers; where ids are texts, number the "
            "images 1, 2, ... and write the same numbers as image_id of the objects, or let hordet "
            "convert-data do so."
        )
        return
    lacking = [
        image.get("id", f"number {index}")
        for index, image in enumerate(images)
        if not is_id(image.get("id"))
        or not all(
            IMAGE_KEYS[key](image[key]) if image.get(key) is not None else key not in needed
            for key in IMAGE_KEYS
        )
    ]
    if lacking:
        others = [
            k for k in _OTHER_NAMES if all(i.get(k) and not i.get("file_name") for i in images)
        ]
        cure = f"Rename {others[0]} to file_name." if others else "Write these keys."
        yield (
            f"{len(lacking)} of {len(images)} images in {path} lack one of "
            f"{', '.join(['id', *needed])}, or hold no whole number of pixels: "
            f"{list_first(lacking)}. {cure}"
        )
        return
    for key in ("id", "file_name"):
        twice = find_repeated(image[key] for image in images if image.get(key) is not None)
        if twice:
            yield (
                f"Several images of {path} have the same {key}: {list_first(twice)}. "
                "Give each image one entry of its own."
            )


def find_cut_images(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Name images of a validation that are cut short: it would end the run after its training."""
    cut = find_cut_files(folder / name for name in names)
    if cut:
        shown = list_first([f"{path} ({words})" for path, words in cut], 3)
        yield (
            f"{len(cut)} of {len(names)} images of validation or test in {folder} cannot be "
            f"decoded whole: {shown}. Fetch them again or take them out."
        )


def find_narrow_images(path: Path, images: list[dict], pipeline: Sequence[dict]) -> Iterator[str]:
    """Name images of which a resize to a fixed size would leave no pixel of the short side."""
    for step in pipeline:
        scale = step.get("scale") if isinstance(step, dict) else None
        if (
            not isinstance(scale, list | tuple)
            or not step.get("keep_ratio")
            or not str(step.get("type")).endswith("Resize")
        ):
            continue
        lost = []
        for image in images:
            short, long = sorted((image["width"], image["height"]))
            factor = min(max(scale) / long, min(scale) / short)  # as mmcv's rescale_size
            if int(short * factor + 0.5) < 1:
                lost.append(f"{image['file_name']} ({image['width']} x {image['height']})")
        if lost:
            yield (
                f"{len(lost)} of {len(images)} images of {path} are so narrow that nothing is left "
                f"of them at {max(scale)} x {min(scale)}: {list_first(lost, 3)}. Cut them into "
                "pieces, take them out, or make the scale of Resize larger."
            )


def find_order_faults(
    path: Path, categories: list[dict], classes: Sequence[str] | None
) -> Iterator[str]:
    """The classes must be among the categories, in their order: so mmdet numbers labels."""
    if classes is None:
        return
    names = [item["name"] for item in categories]
    if absent := [name for name in classes if name not in names]:
        yield describe_absent(path, names, classes, absent)
        return
    order = [name for name in names if name in classes]
    if order != list(classes):
        yield (
            f"The classes are in another order than the categories of {path}, so labels would "
            f"get wrong names. Classes: {list_first(list(classes), 100)}; order in the file: "
            f"{list_first(order, 100)}. Put the classes in the order of the file."
        )


def describe_absent(
    path: Path, names: Sequence[str], classes: Sequence[str], absent: Sequence[str]
) -> str:
    """Say which classes a file lacks, and which names it has."""
    how_many = "None" if len(absent) == len(classes) else "Not all"
    return (
        f"{how_many} of the classes match a category of {path}. Classes of the data set: "
        f"{list_first(list(classes), 100)}; not in the file: {list_first(absent, 100)}; "
        "categories in "
        f"the file: {list_first(names, 100) or 'none'}. "
        "Set metainfo=dict(classes=...) of the data set to names in the file, spelt as there, and "
        "num_classes of the heads to their number."
    )
