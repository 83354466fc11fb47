"""Statistics of a data set in COCO's format: splits, classes, sizes of images and objects."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np

from hordet.datasets.checks.coco import check_file, describe_crowds
from hordet.datasets.checks.entries import find_entry_faults
from hordet.datasets.formats.coco import (
    CocoFile,
    count_objects,
    has_mask,
    is_number,
    read_coco,
)
from hordet.datasets.formats.image_paths import find_image_folder, propose_names
from hordet.errors import DatasetError, list_first
from hordet.new_config.joining import join_contents, join_names
from hordet.new_config.splits import explain_no_validation, find_split, hold_out, refuse_hold_out
from hordet.new_config.words import describe_classes, format_range

LEAVE_OUT, BOX_AS_MASK, BOXES_ALONE = "leave-out", "box-as-mask", "boxes-alone"
# What may be done with objects that have no mask, where others have.
WITHOUT_MASK = {
    LEAVE_OUT: "They are left out",
    BOX_AS_MASK: "Their boxes are taken as masks, in copies of the annotations beside the config",
    BOXES_ALONE: "No mask is trained, all objects are boxes",
}
# COCO's other annotation files, which lie beside those of instances.
_OTHER_KINDS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")


@dataclass
class CocoSplit:
    """One split.

    Attributes:
        ann_file: Annotation file, relative to the root; absolute if it lies beside the config.
        images: Folder of the images, relative to the root; '' for the root.
        content: Content of the annotation file.
        source: The file or files that it was read from, for people.
        notes: What happened when several files were joined, a sentence each.
        is_made: Whether `content` is in no file yet, and must be written beside the config.
    """

    ann_file: str
    images: str
    content: dict
    source: str = ""
    notes: list[str] = field(default_factory=list)
    is_made: bool = False

    def __post_init__(self) -> None:
        """A file that is there is its own source."""
        self.source = self.source or self.ann_file

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.content["images"])


@dataclass
class CocoStatistics:
    """The statistics that a config is made from.

    Those of images and objects are of the training split, without crowds.

    Attributes:
        root: Folder of the data.
        train: Training split.
        val: Validation split.
        classes: Names in the order of the file.
        counts: Number of objects by class, including classes without objects.
        long_sides: Long side of each image, pixels, (N,).
        short_sides: Short side of each image, pixels, (N,).
        sides: Square root of each box's area, pixels, (M,).
        ratios: Height / width of each box, (M,).
        most_objects: Largest number of objects in an image, validation included.
        median_objects: Median number of objects in images that have any.
        with_mask: Whether masks are trained.
        without_mask: Ids of the objects that have none where others have, by annotation file.
        choice: What is done with these, one of WITHOUT_MASK.
        held_out: Text of the annotation files that must be written for these splits, by name.
    """

    root: Path
    train: CocoSplit
    val: CocoSplit
    classes: tuple[str, ...]
    counts: dict[str, int]
    long_sides: np.ndarray
    short_sides: np.ndarray
    sides: np.ndarray
    ratios: np.ndarray
    most_objects: int
    median_objects: int
    with_mask: bool
    held_out: dict[str, str] = field(default_factory=dict)
    without_mask: dict[str, list] = field(default_factory=dict)
    choice: str = LEAVE_OUT

    def explain_choice(self) -> str:
        """Say what is done with objects that have no mask where others have; nothing if all do."""
        if not any(self.without_mask.values()):
            return ""
        shown = " and ".join(
            f"{len(ids)} in {file} (ids {list_first(ids)})"
            for file, ids in self.without_mask.items()
            if ids
        )
        return (
            f"some objects have no mask while others have: {shown}. {WITHOUT_MASK[self.choice]}. "
            "Choose otherwise with --without-mask "
            f"{' or '.join(name for name in WITHOUT_MASK if name != self.choice)}"
        )

    def summarize(self) -> list[str]:
        """Return the statistics as lines to print."""
        low, middle, high = np.quantile(self.sides, [0.05, 0.5, 0.95])
        kind = "masks" if self.with_mask else "boxes only"
        return [
            f"train {self.train.num_images:,} images ({self.train.source}), "
            f"val {self.val.num_images:,} ({self.val.source})",
            f"images {format_range(self.long_sides)} x {format_range(self.short_sides)} pixels "
            "(long x short)",
            f"{len(self.sides):,} objects with {kind}: side {middle:.0f} (5 to 95 %: {low:.0f} to "
            f"{high:.0f}) pixels, {self.median_objects} per image, at most {self.most_objects}",
            *describe_classes(self.counts, "without any object"),
        ]


def measure_coco(
    root: Path,
    train: Sequence[str] | None = None,
    val: Sequence[str] | None = None,
    share: float | None = None,
    without_mask: str | None = None,
) -> CocoStatistics:
    """Measure a data set in COCO's format without opening images.

    Args:
        root: Folder of the data.
        train: Annotation files of training, relative to the root; by default one that is found by
            its name. Of several the classes are matched by their names.
        val: Annotation files of validation, likewise.
        share: Share of the images to hold out for validation if there is no validation split.
        without_mask: What to do with objects that have no mask, one of WITHOUT_MASK; by default
            they are left out where at least half of the objects have one, and otherwise all
            objects are trained as boxes.

    Raises:
        DatasetError: Annotations, classes, images or the validation split are missing, several
            files could be the annotations, or there is a validation split beside `share`.
    """
    files = _annotation_files(root)
    train_files = _choose_files(root, files, "train", train)
    # A file that is named for training is not taken for validation because of its name.
    rest = [file for file in files if file not in train_files]
    val_files = _choose_files(root, rest, "val", val)
    if not train_files:
        raise DatasetError(
            f"{root} has no COCO annotations of training; JSON files there: "
            f"{list_first([file.as_posix() for file in files]) or 'none'}. Name them as in "
            "annotations/instances_train.json, or give --train-ann FILE."
        )
    if val_files:
        refuse_hold_out(share, join_names(val_files))
    splits = _read_splits(root, {"train": train_files, "val": val_files})
    split = splits["train"]
    if val_files:
        other = splits["val"]
    elif share is not None:
        split, other = part_split(split, share)
    else:
        raise explain_no_validation(root, "annotations/instances_val*.json, val.json, valid/*.json")
    return gather_statistics(root, split, other, without_mask)


def _annotation_files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}. Name the folder that holds the data set.")
    found = sorted({*root.glob("*.json"), *root.glob("*/*.json")})
    files = [f.relative_to(root) for f in found if not f.name.startswith(_OTHER_KINDS)]
    return [file for file in files if file.name.startswith("instances_")] or files


def _choose_files(
    root: Path, files: list[Path], split: str, named: Sequence[str] | None
) -> list[Path]:
    """Return the annotation files of a split; a single file of any name is that of training."""
    if named:
        return [_locate(root, name) for name in dict.fromkeys(named)]
    found = [file for file in files if find_split(file) == split]
    if not found and split == "train" and len(files) == 1 and find_split(files[0]) is None:
        return files
    if len(found) > 1:
        names = [quote(file.as_posix()) for file in found]
        raise DatasetError(
            f"{root} has several annotation files for {split}: {list_first(names)}. Name one, or "
            "several whose images belong together (classes are matched by their names): "
            f"--{split}-ann {' '.join(names[:5])}"
        )
    return found


def _locate(root: Path, name: str) -> Path:
    """Return the path of a file relative to the root; it may be given from the working folder."""
    if (root / name).exists() or not Path(name).exists():
        return Path(name)
    return Path(os.path.relpath(name, root))


def _read_splits(root: Path, files: dict[str, list[Path]]) -> dict[str, CocoSplit]:
    """Read the annotation files of each split that has some.

    Raises:
        DatasetError: Some are faulty: all that are, each with its faults.
    """
    parts: dict[str, list[CocoSplit]] = {}
    faults = []
    for split, paths in files.items():
        for path in paths:
            try:
                parts.setdefault(split, []).append(_read_split(root, path, split))
            except DatasetError as error:
                faults.append(str(error))
    if faults:
        raise DatasetError("\n".join(faults))
    return {split: _join_parts(root, files[split], found, split) for split, found in parts.items()}


def _join_parts(root: Path, files: list[Path], parts: list[CocoSplit], split: str) -> CocoSplit:
    """Join the annotation files of a split: several become one, written beside the config."""
    if len(parts) == 1:
        return parts[0]
    contents = [part.content for part in parts]
    content, notes = join_contents(root, files, contents, [part.images for part in parts])
    return CocoSplit(f"{split}.json", "", content, join_names(files), notes, is_made=True)


def _read_split(root: Path, file: Path, split: str) -> CocoSplit:
    named = f"--{split}-ann"
    read = read_coco(root / file, root, named=named)
    if faults := [*find_entry_faults(read.path, read.images, ("file_name",))]:
        raise DatasetError(" ".join(faults))
    names = [image["file_name"] for image in read.images]
    folder = _find_image_folder(root, read, names, split)
    # Sizes that the file lacks are in the images.
    read = read_coco(root / file, root, folder=folder, named=named)
    faults = check_file(read).errors
    if not read.categories:
        faults = [f"{read.path} has no categories. Write them, with id and name."]
    if faults:
        raise DatasetError(" ".join(faults))
    place = "" if folder == root else os.path.relpath(folder, root).replace(os.sep, "/")
    return CocoSplit(file.as_posix(), place, read.content)


def _find_image_folder(root: Path, read: CocoFile, names: list[str], split: str) -> Path:
    """Return the folder of the images.

    Raises:
        DatasetError: None of them was found.
    """
    folder = find_image_folder(root, read.path, names, split)
    if folder is not None:
        return folder
    likely = [root / place for place in (split, f"images/{split}", "images")]
    proposal = propose_names(
        read,
        root,
        root,
        next((place for place in likely if place.is_dir()), root),
        "Put the images there.",
    )
    raise DatasetError(
        f"None of the {len(names)} images of {read.path} was found in {root} and in its "
        f"folders, two levels deep: {list_first(names, 3)}. {proposal}"
    )


def part_split(whole: CocoSplit, share: float) -> tuple[CocoSplit, CocoSplit]:
    """Part an annotation file in training and validation, which are written beside the config.

    Args:
        whole: All images.
        share: Of validation, between 0 and 1.

    Raises:
        DatasetError: A side would be empty.
    """
    images = whole.content["images"]
    chosen = hold_out([image["file_name"] for image in images], share)
    splits = {}
    for name in ("train", "val"):
        kept = [i for i in images if (i["file_name"] in chosen) == (name == "val")]
        ids = {image.get("id") for image in kept}
        objects = [a for a in whole.content["annotations"] if a.get("image_id") in ids]
        content = dict(whole.content, images=kept, annotations=objects)
        notes = whole.notes if name == "train" else []
        source = f"{name}.json" if whole.source == whole.ann_file else f"of {whole.source}"
        splits[name] = CocoSplit(f"{name}.json", whole.images, content, source, notes, is_made=True)
    return splits["train"], splits["val"]


def gather_statistics(
    root: Path, train: CocoSplit, val: CocoSplit, without_mask: str | None
) -> CocoStatistics:
    """Gather the statistics of two splits.

    Args:
        root: Folder of the data.
        train: Split of training.
        val: Split of validation.
        without_mask: As of `measure_coco`.

    Raises:
        DatasetError: Categories are faulty, or no object can be trained on.
    """
    categories = train.content["categories"]
    classes = tuple(item["name"] for item in categories)
    objects = [a for a in train.content["annotations"] if not a.get("iscrowd") and _has_box(a)]
    whole = CocoFile(root / train.ann_file, train.content, named="--train-ann")
    if not objects and count_objects(whole.annotations).crowds:
        raise DatasetError(describe_crowds(whole))
    if not objects:
        raise DatasetError(
            f"{root / train.ann_file} has {len(train.content['annotations'])} annotations, and "
            "none is an object with a box (x, y, width, height) of a size above 0: annotate the "
            "images, or export them again."
        )
    lacking, choice = _choose_masks((train, val), without_mask)
    if choice == BOX_AS_MASK and any(lacking.values()):
        for split in (train, val):
            split.is_made = True
            for annotation in split.content["annotations"]:
                if not has_mask(annotation) and _has_box(annotation):
                    annotation["segmentation"] = [_outline(annotation["bbox"])]
    elif choice == LEAVE_OUT:
        objects = [a for a in objects if has_mask(a)]
    names = {item["id"]: item["name"] for item in categories}
    counts = Counter(names.get(a.get("category_id")) for a in objects)
    per_image = Counter(a.get("image_id") for a in objects)
    # Counted separately, because images of the two files may have the same ids.
    crowd = max(Counter(a.get("image_id") for a in val.content["annotations"]).values(), default=0)
    sizes = np.array([(i["width"], i["height"]) for i in train.content["images"]], float)
    sides = np.array([a["bbox"][2:] for a in objects], float)
    return CocoStatistics(
        root=root,
        train=train,
        val=val,
        classes=classes,
        counts={name: counts[name] for name in classes},
        long_sides=sizes.max(1),
        short_sides=sizes.min(1),
        sides=np.sqrt(sides.prod(1)),
        ratios=sides[:, 1] / sides[:, 0],
        most_objects=max(max(per_image.values()), crowd),
        median_objects=round(float(np.median(list(per_image.values())))),
        with_mask=choice != BOXES_ALONE,
        held_out={
            f"{name}.json": json.dumps(split.content)
            for name, split in (("train", train), ("val", val))
            if split.is_made
        },
        without_mask=lacking,
        choice=choice,
    )


def _choose_masks(splits: Sequence[CocoSplit], choice: str | None) -> tuple[dict[str, list], str]:
    """Return the ids of the objects without a mask, where others have one, and what is done."""
    lacking, objects = {}, 0
    for split in splits:
        single = [a for a in split.content["annotations"] if not a.get("iscrowd")]
        lacking[split.source] = count_objects(single).without_mask
        objects += len(single)
    without = sum(map(len, lacking.values()))
    if without == objects:
        if choice == LEAVE_OUT:
            raise DatasetError(
                f"none of the {objects} objects of {' and '.join(lacking)} has a mask, so nothing "
                f"is left: leave out --without-mask, or give --without-mask {BOX_AS_MASK}"
            )
        return {}, choice or BOXES_ALONE
    return lacking, choice or (LEAVE_OUT if 2 * without <= objects else BOXES_ALONE)


def _outline(box: list[float]) -> list[float]:
    """Return a box (x, y, width, height) as a polygon."""
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _has_box(annotation: dict) -> bool:
    """Tell whether an annotation has a box of four numbers with an area."""
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return False
    return box[2] > 0 and box[3] > 0
