"""Checks of a config's data before a run: minutes of training are not lost to a wrong path.

Only metadata are read: folders, file names, annotation files, and of label maps as many as it takes
to find a class. What shows in the pixels alone is found by the transforms of
`hordet.datasets.transforms` as they read.
"""

import inspect
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from hordet.datasets.checks.coco import check_coco, loads_masks
from hordet.datasets.checks.entries import find_cut_images
from hordet.datasets.checks.findings import Findings
from hordet.datasets.classes import read_metainfo, resolve_dataset_class
from hordet.datasets.detection_limits import find_detection_limit
from hordet.datasets.formats.panoptic import check_panoptic
from hordet.datasets.plain_copies import write_text_copy
from hordet.datasets.roots import LOADERS, list_metrics, walk_datasets
from hordet.datasets.transforms import IGNORED, LoadSegAnnotations
from hordet.errors import DatasetError, DatasetWarning, list_first
from hordet.registry import DATASETS, is_kind_of


def check_datasets(cfg: dict) -> dict[str, str]:
    """Check a config's data before a run, as `find_data_faults` does.

    Returns:
        The copies of annotation files that the run must read: for
        `hordet.datasets.plain_copies.use_copies`.

    Raises:
        DatasetError: Something is missing or wrong; the message lists all faults.

    Warns:
        DatasetWarning: Single annotations are faulty, so few that training may skip them.
    """
    found = find_data_faults(cfg)
    for warning in found.warnings:
        warnings.warn(warning, DatasetWarning, stacklevel=2)
    if found.errors:
        count = "a fault" if len(found.errors) == 1 else f"{len(found.errors)} faults"
        lines = "\n".join(f"- {text}" for text in found.errors)
        raise DatasetError(f"The data have {count}:\n{lines}")
    return found.copies


@dataclass
class DataFindings(Findings):
    """What a check of all data sets of a config found.

    Attributes:
        copies: Path of the plain copy of an annotation file that a run must read, by the place of
            its data set: loader and number, as in 'val_dataloader 0'.
    """

    copies: dict[str, str] = field(default_factory=dict)


def find_data_faults(cfg: dict) -> DataFindings:
    """Check the data sets and annotation files of a config's loaders and evaluators.

    Knows mmdet's COCO data sets, of instances and panoptic, and mmseg's data sets, also within
    wrappers; others, and data on remote storage, are left to themselves.

    Args:
        cfg: A config with any of train, val and test_dataloader; not changed.

    Returns:
        What is wrong, each fault once.
    """
    copies: dict[str, str] = {}
    # As a key, each message stands once, though val and test usually read the same files.
    errors: dict[str, None] = {}
    warned: dict[str, None] = {}
    for key in LOADERS:
        if not cfg.get(key):
            continue
        metrics = list_metrics(cfg.get(key.replace("dataloader", "evaluator")))
        datasets = list(walk_datasets(cfg[key]["dataset"]))
        for number, dataset in enumerate(datasets):
            scope = cfg.get("default_scope")
            kind = resolve_dataset_class(dataset, scope)
            if kind is None or "://" in str(dataset.get("data_root")):
                continue
            classes = read_metainfo(dataset, scope).get("classes")
            root = Path(dataset.get("data_root") or ".")
            if is_kind_of(kind, "mmdet.CocoDataset") and classes:
                errors |= dict.fromkeys(_head_faults(cfg.get("model"), classes))
            if not root.is_dir():
                found = Findings(errors=[_no_root(root)])
            elif is_kind_of(kind, "mmdet.CocoDataset"):
                scored = not any(metric.get("format_only") for metric in metrics)
                if is_kind_of(kind, "mmdet.CocoPanopticDataset"):
                    found = check_panoptic(dataset, classes, scored=scored)
                else:
                    # Of several files that train together, none needs all classes.
                    needed = classes if key == LOADERS[0] and len(datasets) == 1 else ()
                    found = check_coco(
                        dataset,
                        classes,
                        scored=scored,
                        needed=needed,
                        with_mask=uses_masks(dataset, metrics),
                        limit=find_detection_limit(cfg.get("model")),
                    )
            elif is_kind_of(kind, "mmseg.BaseSegDataset"):
                found = Findings(errors=list(_segmentation_faults(dataset, kind, classes)))
                if not found.errors:
                    found.errors += _find_unlabeled(dataset, kind)
                if not found.errors and dataset.get("ann_file"):
                    found.copy = _copy_list(root / dataset["ann_file"])
            else:
                continue
            if found.copy:
                copies[f"{key} {number}"] = found.copy
            errors |= dict.fromkeys(found.errors)
            warned |= dict.fromkeys(found.warnings)
        if len(datasets) == 1:
            errors |= dict.fromkeys(_evaluator_faults(key, metrics, datasets[0]))
    return DataFindings(list(errors), list(warned), copies=copies)


def _head_faults(model: object, classes: tuple[str, ...], path: str = "model") -> Iterator[str]:
    """A head with fewer classes than the data fails at the first label beyond them."""
    if isinstance(model, list | tuple):
        for index, part in enumerate(model):
            yield from _head_faults(part, classes, f"{path}.{index}")
    if not isinstance(model, dict):
        return
    for name, part in model.items():
        where = f"{path}.{name}"
        heads = part if isinstance(part, list | tuple) else [part]
        for head in heads if name in ("bbox_head", "mask_head") else ():
            number = head.get("num_classes") if isinstance(head, dict) else None
            if not isinstance(number, int) or number >= len(classes) or head.get("class_agnostic"):
                continue
            yield (
                f"{where} has num_classes={number}, and the data set has {len(classes)} classes: "
                f"{list_first(list(classes))}. Set num_classes to {len(classes)}, or name fewer "
                "classes in the data set's metainfo."
            )
        yield from _head_faults(part, classes, where)


def uses_masks(dataset: dict, metrics: list[dict]) -> bool:
    """Tell whether a data set's pipeline loads masks, or one of its metrics scores them."""
    scored = any("segm" in (metric.get("metric") or ()) for metric in metrics)
    return scored or loads_masks(dataset.get("pipeline") or [])


def _no_root(root: Path) -> str:
    """The fault of a missing data root."""
    return (
        f"There is no folder {root} (that is {root.absolute()}). Put or link the data there, or "
        "set the environment variable HORDET_DATA to the folder that holds the data sets, or name "
        "the root with --data-root."
    )


def _evaluator_faults(key: str, metrics: list[dict], dataset: dict) -> Iterator[str]:
    """An evaluator must score against the annotations its loader reads."""
    read = Path(dataset.get("data_root") or ".") / dataset.get("ann_file", "")
    panoptic = [metric for metric in metrics if metric.get("seg_prefix")]
    # Beside panoptic quality, masks may be scored against the file of instances.
    for metric in panoptic or metrics:
        scored = metric.get("ann_file")
        if scored and "://" not in scored and Path(scored).resolve() != read.resolve():
            yield (
                f"{key} reads {read}, but its evaluator scores against {scored}. "
                "Set both to the same annotation file (--data-root does so)."
            )


def _segmentation_faults(
    dataset: dict, kind: type, classes: list[str] | tuple[str, ...] | None
) -> Iterator[str]:
    """Check folders and file names of an mmseg data set whose root is there."""
    options = inspect.signature(kind).parameters
    suffixes = {
        name: dataset.get(name, options[name].default if name in options else fallback)
        for name, fallback in (("img_suffix", ".jpg"), ("seg_map_suffix", ".png"))
    }
    root = Path(dataset["data_root"] or ".")
    prefix = dataset.get("data_prefix") or {}
    images = root / (prefix.get("img_path") or "")
    maps = root / (prefix.get("seg_map_path") or "")
    for transform in dataset.get("pipeline") or []:
        stated = transform.get("num_classes") if isinstance(transform, dict) else None
        if stated is not None and classes is not None and stated != len(classes):
            yield (
                f"{transform['type']} of the data set in {root} has num_classes={stated}, the data "
                f"set has {len(classes)} classes ({list_first(list(classes))}). Make both the same."
            )
    missing = [folder for folder in (images, maps) if not folder.is_dir()]
    if missing:
        held = sorted(entry.name for entry in root.iterdir())
        yield (
            f"There is no folder {list_first(missing)}; {root} holds "
            f"{list_first(held, 10) or 'nothing'}. "
            "Correct data_prefix (img_path, seg_map_path) or the data root."
        )
        return
    split = root / dataset["ann_file"] if dataset.get("ann_file") else None
    if split is not None and not split.is_file():
        yield f"There is no list of images {split}. Correct ann_file or the data root."
        return
    there = _names_below(images, suffixes["img_suffix"])
    names = there
    if split is not None:
        try:
            names = {*_read_list(split)}
        except UnicodeDecodeError as error:
            yield f"The list of images {split} is not in UTF-8 ({error}). Save it as UTF-8."
            return
    if not names:
        where = split or images
        yield (
            f"{where} names no image that ends in '{suffixes['img_suffix']}'. "
            "Correct img_suffix, data_prefix or the data root."
        )
    without_image = sorted(names - there)
    if without_image:
        yield (
            f"{len(without_image)} images of {split} are not in {images}: "
            f"{list_first(without_image)}. Fetch them, or take them out of the list."
        )
    if dataset.get("test_mode"):
        present = [f"{name}{suffixes['img_suffix']}" for name in sorted(names & there)]
        yield from find_cut_images(images, present)
    without_map = sorted((names & there) - _names_below(maps, suffixes["seg_map_suffix"]))
    if without_map:
        yield (
            f"{len(without_map)} of {len(names)} images in {images} have no label map "
            f"'<name>{suffixes['seg_map_suffix']}' in {maps}: {list_first(without_map)}. "
            "Fetch the maps, correct seg_map_suffix, or take these images out."
        )


def _find_unlabeled(dataset: dict, kind: type) -> Iterator[str]:
    """Some pixel of a data set must have a class; most often the first label map has one."""
    options = dict(dataset, type=kind, pipeline=[], lazy_init=True)
    try:
        built = DATASETS.build(options)
        samples = built.load_data_list()
        load = LoadSegAnnotations(len(built.metainfo["classes"]))
        for sample in samples:
            if (load.transform(sample)["gt_seg_map"] != IGNORED).any():
                return
    except (DatasetError, OSError, ValueError, KeyError, TypeError):
        return  # told where it is read
    folder = Path(samples[0]["seg_map_path"]).parent if samples else dataset["data_root"]
    zero = " or 0 (reduce_zero_label)" if samples and samples[0].get("reduce_zero_label") else ""
    yield (
        f"Every pixel of the {len(samples)} label maps in {folder} is {IGNORED}{zero}, no class: "
        "nothing to train or score on. Export the maps with class indices, or correct "
        "data_prefix (seg_map_path) or reduce_zero_label."
    )


def _read_list(path: Path) -> list[str]:
    """Return the names in a list of images, without blanks around them and without empty lines."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _copy_list(path: Path) -> str | None:
    """Write a plain copy of a list of images; None where mmseg reads the same in the file itself.

    mmseg takes an empty line for an image without a name, and a byte order mark for a part of one.
    """
    names = _read_list(path)
    if [line.strip() for line in StringIO(path.read_bytes().decode())] == names:
        return None
    text = "".join(f"{name}\n" for name in names)
    return str(write_text_copy(path, text, "plain"))


def _names_below(folder: Path, suffix: str) -> set[str]:
    """Files below a folder that end in `suffix`, relative to it and without the suffix.

    A link to nothing is no file.
    """
    names = set()
    folders = [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith(suffix) and entry.is_file():
                    path = Path(entry.path).relative_to(folder).as_posix()
                    names.add(path[: len(path) - len(suffix)])
    return names
