"""Statistics of images with label maps: splits, class names, sizes and classes in use."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from hordet.datasets.formats.coco import read_size
from hordet.datasets.formats.maps_beside import find_map_end, is_map_beside
from hordet.datasets.transforms import IGNORED, LoadSegAnnotations
from hordet.errors import DatasetError, list_first
from hordet.new_config.class_names import name_classes, read_class_names
from hordet.new_config.splits import explain_no_validation, find_split, hold_out, refuse_hold_out
from hordet.new_config.words import describe_classes, format_range

_IMAGES = ("images", "img", "imgs", "JPEGImages")
_MAPS = ("annotations", "labels", "masks", "ann_dir", "SegmentationClass")
# Largest number of maps read for the statistics, spread over all; `hordet check` reads all.
MOST_MAPS = 2000


@dataclass
class MapSplit:
    """One split.

    Attributes:
        images: Folder of the images, relative to the root.
        maps: Folder of the label maps, relative to the root.
        names: Names of the images, relative to their folder and without suffix.
        ann_file: List of the names, written beside the config; '' means the whole folder.
    """

    images: str
    maps: str
    names: list[str]
    ann_file: str = ""


@dataclass
class MapStatistics:
    """The statistics that a config is made from; those of pixels are of the training split.

    Attributes:
        root: Folder of the data.
        train: Training split.
        val: Validation split.
        img_suffix: End of the images' file names.
        seg_map_suffix: End of the label maps' file names, in place of `img_suffix`.
        classes: Names in the order of the labels.
        named_by: File with the names; None if there is none.
        counts: Number of pixels by class, including classes without pixels.
        ignored: Share of the pixels that have no class.
        reduce_zero_label: Whether 0 means no class, and classes start at 1.
        long_sides: Long side of each measured image, pixels, (N,).
        short_sides: Short side of each measured image, pixels, (N,).
        held_out: Text of the lists that must be written for these splits, by file name.
    """

    root: Path
    train: MapSplit
    val: MapSplit
    img_suffix: str
    seg_map_suffix: str
    classes: tuple[str, ...]
    named_by: Path | None
    counts: dict[str, int]
    ignored: float
    reduce_zero_label: bool
    long_sides: np.ndarray
    short_sides: np.ndarray
    held_out: dict[str, str] = field(default_factory=dict)

    def summarize(self) -> list[str]:
        """Return the statistics as lines to print."""
        total = sum(self.counts.values())
        rare = min((n for n in self.counts.values() if n), default=0) / max(total, 1)
        zero = "0 is no class" if self.reduce_zero_label else "0 is the first class"
        return [
            f"train {len(self.train.names):,} images ({self.train.images}), "
            f"val {len(self.val.names):,} ({self.val.images})",
            f"images {format_range(self.long_sides)} x {format_range(self.short_sides)} pixels "
            "(long x short)",
            f"label maps: {zero}, {self.ignored:.1%} of the pixels are ignored, the rarest class "
            f"in use has {rare:.2%}",
            f"names of classes: {self.named_by or 'none found (classes.txt, labels.txt, ...)'}",
            *describe_classes(self.counts, "without any pixel"),
        ]


def measure_maps(
    root: Path,
    classes_file: Path | None = None,
    reduce_zero_label: bool = False,
    share: float | None = None,
) -> MapStatistics:
    """Measure images with label maps in ADE20K's layout; up to `MOST_MAPS` of a split are read.

    Args:
        root: Folder with images in `images/` and maps in `annotations/` (or folders so called),
            each with folders for training and validation; or with each map beside its image, as
            Roboflow exports: `a.jpg` and `a_mask.png`, or `a.jpg` and `a.png`, in `train/` and
            `valid/` or in the root.
        classes_file: File with the names of the classes; by default looked for in the root.
        reduce_zero_label: 0 means no class. Found automatically if a file names the classes.
        share: Share of the images to hold out for validation if there is no validation split.

    Raises:
        DatasetError: Images, maps, classes or the validation split are missing or unclear, or the
            split is there beside `share`.
    """
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}. Name the folder that holds the data set.")
    apart = all(any((root / name).is_dir() for name in names) for names in (_IMAGES, _MAPS))
    folders = _find_split_folders(root)
    folders = folders if "train" in folders else {"train": root} | folders
    map_end = "" if apart else find_map_end(folders["train"])
    if map_end:
        images = maps = root
        image_folders = map_folders = folders
    else:
        images = _find_folder(root, _IMAGES, "images")
        maps = _find_folder(root, _MAPS, "label maps")
        image_folders, map_folders = _find_split_folders(images), _find_split_folders(maps)
    folder = image_folders.get("train", images)
    img_suffix = _find_suffix(folder, map_end)
    names = _list_names(folder, img_suffix, map_end)
    map_folder = map_folders.get("train", maps)
    map_suffix = map_end or _find_map_suffix(map_folder, names)
    # mmseg would take the maps for images where both end alike: lists of names tell them apart.
    lists = ("train.txt", "val.txt") if map_suffix.endswith(img_suffix) and map_end else ("", "")
    train = _make_split(root, folder, map_folder, names, lists[0])
    if "val" in image_folders and "val" in map_folders:
        refuse_hold_out(share, str(image_folders["val"]))
        val_names = _list_names(image_folders["val"], img_suffix, map_end)
        val = _make_split(root, image_folders["val"], map_folders["val"], val_names, lists[1])
    elif share is not None:
        chosen = hold_out(names, share)
        kept = [name for name in names if name not in chosen]
        train = _make_split(root, folder, map_folder, kept, "train.txt")
        val = _make_split(root, folder, map_folder, sorted(chosen), "val.txt")
    else:
        raise explain_no_validation(
            root, f"{images.name}/validation and {maps.name}/validation, or /val"
        )
    held_out = {
        split.ann_file: "\n".join(split.names) + "\n" for split in (train, val) if split.ann_file
    }
    pixels, sizes = _count_pixels(root, train, img_suffix, map_suffix)
    # A value that only validation maps hold must not stop the first validation.
    values = {*pixels, *_count_pixels(root, val, img_suffix, map_suffix)[0]}
    found, named_by = read_class_names(root, classes_file)
    classes, reduce_zero_label = name_classes(root, found, values, reduce_zero_label)
    first = int(reduce_zero_label)
    total = sum(pixels.values())
    counts = {name: pixels[label] for label, name in enumerate(classes, first)}
    return MapStatistics(
        root=root,
        train=train,
        val=val,
        img_suffix=img_suffix,
        seg_map_suffix=map_suffix,
        classes=classes,
        named_by=named_by,
        counts=counts,
        ignored=1 - sum(counts.values()) / total,
        reduce_zero_label=reduce_zero_label,
        long_sides=sizes.max(1),
        short_sides=sizes.min(1),
        held_out=held_out,
    )


def _make_split(
    root: Path, images: Path, maps: Path, names: list[str], ann_file: str = ""
) -> MapSplit:
    """Return a split with its folders relative to the root."""
    return MapSplit(
        images.relative_to(root).as_posix(), maps.relative_to(root).as_posix(), names, ann_file
    )


def _find_folder(root: Path, names: tuple[str, ...], what: str) -> Path:
    """Return the first folder of the root that has one of the names."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    held = sorted(entry.name for entry in root.iterdir())
    raise DatasetError(
        f"{root} has no folder of {what} ({', '.join(names)}); it holds {list_first(held, 10)}. "
        "Lay the data out as images/{training,validation} and annotations/{training,validation}."
    )


def _find_split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of `train` and `val` in a folder, as far as there are such."""
    found = {find_split(Path(path.name)): path for path in folder.iterdir() if path.is_dir()}
    return {split: path for split, path in found.items() if split}


def _list_files(folder: Path, pattern: str, map_end: str) -> list[Path]:
    """Return the files of a folder and below; where maps lie beside images, of the folder alone."""
    return sorted(folder.glob(pattern) if map_end else folder.rglob(pattern))


def _find_suffix(folder: Path, map_end: str) -> str:
    """Return the suffix of all images of a folder; mmseg's data sets accept only one."""
    known = Image.registered_extensions()
    files = _list_files(folder, "*", map_end)
    files = [file for file in files if file.suffix.lower() in known and file.is_file()]
    files = [file for file in files if not is_map_beside(file, map_end)]
    suffixes = Counter(file.suffix for file in files)
    if len(suffixes) != 1:
        shown = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common())
        raise DatasetError(
            f"{folder} must hold images of one suffix, and has {shown or 'none'}. Put the "
            "images there, or convert them to one format."
        )
    return next(iter(suffixes))


def _list_names(folder: Path, suffix: str, map_end: str) -> list[str]:
    """Return the names of the images of a folder, sorted, without suffix."""
    found = _list_files(folder, f"*{suffix}", map_end)
    files = [file for file in found if not is_map_beside(file, map_end)]
    if not files:
        raise DatasetError(
            f"{folder} holds no image that ends in {suffix!r}, the suffix of the training images. "
            "Convert all images to one format."
        )
    return [file.relative_to(folder).as_posix().removesuffix(suffix) for file in files]


def _find_map_suffix(folder: Path, names: list[str]) -> str:
    """Return what follows an image's name in its map's name: `.png`, or such as `_labels.png`."""
    parent = (folder / names[0]).parent
    stem = Path(names[0]).name
    found = [f.name for f in parent.glob("*") if f.name.startswith(stem)]
    ends = [name.removeprefix(stem) for name in found]
    ends = [end for end in ends if re.fullmatch(r"([_.-].*)?\.(png|bmp|tiff?|gif)", end)]
    if not ends:
        raise DatasetError(
            f"The image {names[0]} has no label map in {parent}. A map is a PNG of one channel "
            "that holds indices, under the name of its image."
        )
    return min(ends, key=len)


def _count_pixels(
    root: Path, split: MapSplit, img_suffix: str, map_suffix: str
) -> tuple[Counter, np.ndarray]:
    """Return the number of pixels by value, 255 for ignored ones, and the image sizes (N, 2)."""
    load = LoadSegAnnotations(IGNORED)
    pixels: Counter = Counter()
    sizes = []
    for name in split.names[:: -(-len(split.names) // MOST_MAPS)]:
        image = root / split.images / f"{name}{img_suffix}"
        path = root / split.maps / f"{name}{map_suffix}"
        try:
            sizes.append(read_size(image))
        except OSError as error:
            raise DatasetError(
                f"Cannot decode the image {image}: {error}. Fetch it again or remove it."
            ) from error
        sample = dict(seg_map_path=str(path), img_path=str(image), ori_shape=sizes[-1][::-1])
        values = load.transform(sample)["gt_seg_map"]
        numbers = np.bincount(values.ravel(), minlength=IGNORED + 1)
        pixels.update({value: int(number) for value, number in enumerate(numbers) if number})
    return pixels, np.array(sizes, float)
