"""What COCO's annotation files of instances and of panoptic segments share: reading and checks."""

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hordet.errors import list_first


def read_coco(path: Path, root: Path, scored: bool) -> dict | str:
    """Read an annotation file of a data root; return its content, or in words why it has none.

    `images`, `categories` and, if `scored`, `annotations` are lists of dicts in the content.
    """
    if not path.is_file():
        near = sorted(str(file.relative_to(root)) for file in root.glob("*/*.json"))
        there = (
            f"{root} holds {list_first(near)}" if near else f"no folder in {root} holds any JSON"
        )
        return f"There is no annotation file {path}; {there}. Correct ann_file."
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return f"Cannot read {path}: {error}. Check that you may read it."
    except ValueError as error:
        return f"{path} is no whole JSON file ({error}). Fetch or export it again."
    wanted = ("images", "categories") + (("annotations",) if scored else ())
    if not isinstance(content, dict) or any(
        not isinstance(content.get(key), list)
        or not all(isinstance(item, dict) for item in content[key])
        for key in wanted
    ):
        got = list_first(list(content), 8) if isinstance(content, dict) else type(content).__name__
        return (
            f"{path} is no COCO annotation file: it must be an object with the lists "
            f"{', '.join(wanted)}, got {got}. Convert it to COCO's format."
        )
    return content


def find_category_faults(
    path: Path, categories: list[dict], classes: Sequence[str] | None
) -> Iterator[str]:
    """The classes must be among the categories, in their order: so mmdet numbers its labels."""
    if not all(
        is_number(item.get("id")) and isinstance(item.get("name"), str) for item in categories
    ):
        yield f"Some categories of {path} lack an id (a number) or a name. Write these keys."
        return
    for key in ("id", "name"):
        twice = find_repeated(item[key] for item in categories)
        if twice:
            shown = list_first(twice)
            yield f"{path} has several categories of one {key}: {shown}. Give each its own."
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
            f"{list_first(list(classes), 100)}; not in the file: {list_first(absent, 100)}; "
            "categories in "
            f"the file: {list_first(names, 100) or 'none'}. {cure}"
        )
        return
    order = [name for name in names if name in classes]
    if order != list(classes):
        yield (
            f"The classes stand in another order than the categories of {path}, so labels would "
            f"get wrong names. Classes: {list_first(list(classes), 100)}; order in the file: "
            f"{list_first(order, 100)}. Put the classes in the order of the file."
        )


def find_image_faults(path: Path, images: list[dict], folder: Path) -> Iterator[str]:
    """Each image must have its keys and its file."""
    if not images:
        yield f"{path} lists no image. Use another annotation file."
        return
    lacking = [
        image.get("id", f"number {index}")
        for index, image in enumerate(images)
        if not isinstance(image.get("file_name"), str)
        or not all(is_number(image.get(key)) for key in ("id", "height", "width"))
    ]
    if lacking:
        yield (
            f"{len(lacking)} of {len(images)} images in {path} lack one of id, file_name, height, "
            f"width: {list_first(lacking)}. Write these keys."
        )
        return
    for key in ("id", "file_name"):
        twice = find_repeated(image[key] for image in images)
        if twice:
            yield (
                f"{len(twice)} values of {key} stand at several images of {path}: "
                f"{list_first(twice)}. "
                "Each image needs an entry of its own, and only one."
            )
    missing = find_missing_files(folder, [image["file_name"] for image in images])
    if missing:
        yield (
            f"{len(missing)} of {len(images)} images of {path} are missing: "
            f"{list_first(missing, 3)}. Fetch them, or correct data_prefix (img) or the data root."
        )


def find_missing_files(folder: Path, names: Iterable[str]) -> list[str]:
    """The paths among `folder / name` at which there is no file."""
    # One look at each folder: asking for each file takes minutes on network storage.
    wanted = defaultdict(list)
    for path in names:
        parent, name = os.path.split(os.path.join(folder, path))
        wanted[parent].append(name)
    missing = []
    for parent, names_there in wanted.items():
        there = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        missing += [os.path.join(parent, name) for name in names_there if name not in there]
    return missing


def find_repeated(values: Iterable) -> list:
    """The values that occur more than once, each once."""
    return [value for value, number in Counter(values).items() if number > 1]


def is_number(value: object) -> bool:
    """Whether a value read from JSON is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
