"""Several annotation files as one: classes by their names, one entry an image, new ids.

Exporters write a file for each task or annotator, with categories in an order of their own.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hordet.datasets.checks.coco import fold_name
from hordet.errors import DatasetError, list_first


def join_contents(
    root: Path,
    files: Sequence[Path],
    contents: Sequence[dict[str, Any]],
    folders: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    """Join the contents of annotation files.

    Categories of one name are one. An image that several files list is one image with the objects
    of all; objects that are alike in class, box and outline are one.

    Args:
        root: Folder of the data.
        files: The annotation files, relative to the root.
        contents: What is in them, as the reader of COCO files gives it and the check passes it.
        folders: Of the images of each, relative to the root; '' for the root.

    Returns:
        The content of one file, whose `file_name` are relative to the root, and a sentence each on
        images that several files list and on names of classes that are nearly alike.

    Raises:
        DatasetError: Ids of a few objects lead to nothing, so that these cannot be given others.
    """
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, dict[str, Any]] = {}
    objects: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    shared: dict[str, None] = {}
    for file, content, folder in zip(files, contents, folders, strict=True):
        _require_ids(root / file, content)
        image_ids, category_ids = {}, {}
        for category in content["categories"]:
            known = categories.setdefault(category["name"], dict(category, id=len(categories) + 1))
            category_ids[category["id"]] = known["id"]
        for image in content["images"]:
            name = (Path(folder) / image["file_name"]).as_posix()
            if name in images:
                shared[name] = None
            known = images.setdefault(name, dict(image, id=len(images) + 1, file_name=name))
            image_ids[image["id"]] = known["id"]
        for each in content["annotations"]:
            image_id, category_id = image_ids[each["image_id"]], category_ids[each["category_id"]]
            outline = json.dumps([each.get("bbox"), each.get("segmentation")])
            if (image_id, category_id, outline) in seen:
                continue
            seen.add((image_id, category_id, outline))
            new = dict(id=len(objects) + 1, image_id=image_id, category_id=category_id)
            objects.append({**each, **new})
    joined = dict(
        images=list(images.values()), annotations=objects, categories=list(categories.values())
    )
    notes = []
    if shared:
        total = sum(len(content["annotations"]) for content in contents)
        notes.append(
            f"{len(shared)} images are listed more than once in {join_names(files)}: "
            f"{list_first([*shared])}. Each is one image with the objects of all; of {total} "
            f"objects {total - len(objects)} are there twice and count once."
        )
    alike = defaultdict(list)
    for name in categories:
        alike[fold_name(name)].append(name)
    twins = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if twins:
        notes.append(
            f"{join_names(files)} have classes that differ in their spelling alone: "
            f"{list_first(twins)}. If they are one, write one name in all files."
        )
    return joined, notes


def join_names(files: Sequence[Path]) -> str:
    """Return the names of files with 'and' between them."""
    return " and ".join(file.as_posix() for file in files)


def _require_ids(path: Path, content: dict[str, Any]) -> None:
    """Require that each object is of an image and a category of its file.

    Raises:
        DatasetError: It is not so.
    """
    objects = content["annotations"]
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        known = {item["id"] for item in content[part]}
        lost = [a["id"] for a in objects if a[key] not in known]
        if lost:
            raise DatasetError(
                f"{len(lost)} of {len(objects)} annotations in {path} have a {key} that nothing in "
                f"{part} has: ids {list_first(lost)}. Correct them or take them out."
            )
