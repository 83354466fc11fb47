"""Copies of annotation files, in the cache: plain ones that a run reads, corrected ones to choose.

mmdet's data sets and metrics read annotation files with pycocotools, by the path in the config.
So a run whose file is not plain, whose categories are in another order than the classes, or in
which some objects must be left out, is given the path of a copy that says the same plainly. Any
data set and metric that reads a COCO file then sees what the check saw, whatever its class.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hordet.datasets.formats.coco import CocoFile, has_mask, is_polygon
from hordet.datasets.roots import LOADERS, list_metrics, walk_datasets
from hordet.ops.files import get_cache_folder, write_whole


def locate_copies() -> Path:
    """Return the folder of the copies, in that of HORDET_CACHE or in ~/.cache/hordet."""
    return get_cache_folder() / "annotations"


def write_copy(path: Path, content: dict[str, Any], kind: str) -> Path:
    """Write a copy of an annotation file, unless the same copy is there.

    Args:
        path: The file.
        content: Of the copy.
        kind: A word for its name, such as 'plain'.

    Raises:
        FileWriteError: The cache cannot be written.
    """
    # NaN, which exporters write among attributes, is read again by Python's json.
    text = json.dumps(content)
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    copy = locate_copies() / f"{path.stem}-{kind}-{digest}.json"
    if not copy.is_file():
        write_whole(copy, text)
    return copy


def fit_annotations(
    file: CocoFile, classes: Sequence[str] | None, with_mask: bool
) -> tuple[dict[str, Any], bool]:
    """Return the content that a run reads, and whether pycocotools finds it in the file itself.

    Args:
        file: An annotation file of instances, without errors of the check.
        classes: Names in the order of the labels; None: the file's own. Categories are put in
            their order, for mmdet counts labels along the file; classes that the file lacks get a
            category without objects, so that the labels of the others stay.
        with_mask: Whether masks are read: objects without one are left out.
    """
    content, plain = dict(file.content), file.plain
    if classes is not None:
        by_name = {item["name"]: item for item in file.categories}
        free = max((item["id"] for item in file.categories), default=0) + 1
        ordered = []
        for name in classes:
            if name not in by_name:
                plain = False
                by_name[name] = dict(id=free, name=name)
                free += 1
            ordered.append(by_name[name])
        in_file = [item for item in file.categories if item["name"] in classes]
        if [item["name"] for item in in_file] != list(classes):
            plain = False
            others = [item for item in file.categories if item["name"] not in classes]
            content["categories"] = ordered + others
    if with_mask and "annotations" in content:
        kept = [_drop_bad_polygons(a) for a in file.annotations if has_mask(a)]
        if len(kept) < len(file.annotations) or any(
            new is not old for new, old in zip(kept, file.annotations, strict=False)
        ):
            plain = False
            content["annotations"] = kept
    return content, plain


def _drop_bad_polygons(annotation: dict[str, Any]) -> dict[str, Any]:
    """Leave out polygons that are none; pycocotools takes four numbers for a box."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict) or all(map(is_polygon, segmentation)):
        return annotation
    return dict(annotation, segmentation=[p for p in segmentation if is_polygon(p)])


def use_copies(cfg: dict, copies: dict[str, str]) -> None:
    """Point data sets and their evaluators to copies of their annotation files.

    Args:
        cfg: A config, changed in place.
        copies: Path of a copy by the place of its data set: loader and number, 'val_dataloader 0'.
    """
    for key in LOADERS:
        if not cfg.get(key):
            continue
        datasets = list(walk_datasets(cfg[key]["dataset"]))
        for number, dataset in enumerate(datasets):
            copy = copies.get(f"{key} {number}")
            if copy is None:
                continue
            read = Path(dataset.get("data_root") or ".") / dataset["ann_file"]
            dataset["ann_file"] = copy
            if len(datasets) > 1:
                continue
            for metric in list_metrics(cfg.get(key.replace("dataloader", "evaluator"))):
                scored = metric.get("ann_file")
                if scored and "://" not in scored and Path(scored).resolve() == read.resolve():
                    metric["ann_file"] = copy
