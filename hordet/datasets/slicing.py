"""Cutting a COCO data set of large images into overlapping patches, for training."""

import json
import warnings
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import mmcv
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hordet.datasets.checks.coco import check_coco
from hordet.datasets.formats.coco import read_coco
from hordet.datasets.tiles import Tiles
from hordet.datasets.transforms import LoadImageFromFile
from hordet.errors import DatasetError, DatasetWarning
from hordet.ops.files import write_whole
from hordet.ops.run_lengths import decode_segmentation, encode_mask

# Bytes of an image's name in those of its patches, which have numbers too: file systems take 255.
_LONGEST_STEM = 150
Place = tuple[int, int, int, int]  # left, top, right, bottom


def slice_coco(
    annotations: Path, images: Path, out: Path, patches: Tiles, min_area_ratio: float = 0.1
) -> Counter[str]:
    """Write the patches of a data set's images as a data set of its own.

    `out` gets `annotations/` with a file of the same name, and a folder of images that is named
    as `images`; so a config reads it with another `data_root`, if its own is laid out so. Images
    are PNG of 8 bits, decoded as for training. Patches without objects are kept.

    An object that lies in a patch as a whole keeps its box, area and polygons. Of another one the
    part is annotated: that of its mask, as run lengths, with that part's box and area; without a
    mask, the part of its box.

    Args:
        annotations: COCO's annotation file, of boxes or masks.
        images: Folder where its file names begin.
        out: Folder to write to.
        patches: How the images are cut.
        min_area_ratio: A part of less than this share of the object's area is not annotated.

    Returns:
        Numbers of `images`, of `patches`, and of annotations in them: of `whole` objects, of
        `parts`, and `dropped` parts, too small to be annotated.

    Raises:
        DatasetError: The data are faulty, or `out` has such a data set already.
        ValueError: `min_area_ratio` is not from 0 to 1.
    """
    if not 0 <= min_area_ratio <= 1:
        raise ValueError(f"min_area_ratio is {min_area_ratio}; it must be from 0 to 1")
    target, folder = out / "annotations" / annotations.name, out / images.resolve().name
    for path, there in ((target, target.exists()), (folder, folder.resolve() == images.resolve())):
        if there:
            raise DatasetError(f"{path} is there already. Name another folder to write to.")
    config = dict(ann_file=str(annotations.resolve()), data_prefix=dict(img=str(images.resolve())))
    found = check_coco(config, None, with_mask=False, named="the path")
    if found.errors:
        raise DatasetError("\n  ".join(["These data cannot be cut:", *found.errors]))
    for caution in found.warnings:
        warnings.warn(caution, DatasetWarning, stacklevel=2)
    content = read_coco(annotations, annotations.parent, folder=images).content
    objects = defaultdict(list)
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    entries: list[dict] = []
    made: list[dict] = []
    count: Counter[str] = Counter(images=len(content["images"]))
    for image in tqdm(content["images"], unit="image", disable=None):
        places = patches.of(image["height"], image["width"])
        first = len(entries) + 1
        entries += _write_patches(image, places, images, folder, first)
        for annotation in objects[image["id"]]:
            thing = _Object(annotation, (image["height"], image["width"]))
            for number, place in enumerate(places, first):
                kind, part = thing.within(place, min_area_ratio)
                count[kind] += 1
                if part:
                    made.append(dict(part, id=len(made) + 1, image_id=number))
    count["patches"] = len(entries)
    write_whole(target, json.dumps(dict(content, images=entries, annotations=made)))
    return count


def _write_patches(
    image: dict[str, Any], places: list[Place], images: Path, folder: Path, first: int
) -> list[dict[str, Any]]:
    """Write the patches of an image; return their entries, whose ids begin with the first."""
    size = dict(height=image["height"], width=image["width"])
    wanted = dict(img_path=str(images / image["file_name"]), instances=[], **size)
    pixels = LoadImageFromFile()(wanted)["img"]
    path = _keep_below(image["file_name"])
    # Two images may differ in their suffix, or beyond the longest stem, but not in their id.
    short = path.stem.encode("utf-8", "ignore")[:_LONGEST_STEM].decode("utf-8", "ignore")
    stem = f"{path.with_name(short)}_{image['id']}"
    entries = []
    for number, (left, top, right, bottom) in enumerate(places, first):
        name = f"{stem}_{left}_{top}_{right}_{bottom}.png"
        mmcv.imwrite(pixels[top:bottom, left:right], str(folder / name))
        entries.append(dict(id=number, file_name=name, height=bottom - top, width=right - left))
    return entries


def _keep_below(name: str) -> PurePosixPath:
    """Return a file name without what would lead out of the folder that it is written to."""
    parts = PurePosixPath(name).parts
    return PurePosixPath(*(part for part in parts if part != ".." and not part.startswith("/")))


class _Object:
    """An annotated object in an image of (height, width)."""

    def __init__(self, annotation: dict[str, Any], size: tuple[int, int]) -> None:
        self.annotation = annotation
        self.size = size
        x, y, width, height = annotation["bbox"]
        self.box = (x, y, x + width, y + height)

    def within(self, place: Place, min_area_ratio: float) -> tuple[str, dict[str, Any] | None]:
        """Return 'outside', 'whole', 'parts' or 'dropped', and the annotation in a patch."""
        left, top, right, bottom = place
        x, y, end, low = self.box
        if x >= right or y >= bottom or end <= left or low <= top:
            return "outside", None
        kept: dict[str, Any] = {
            k: self.annotation[k] for k in ("category_id", "iscrowd") if k in self.annotation
        }
        if x >= left and y >= top and end <= right and low <= bottom:
            box = [x - left, y - top, end - x, low - y]
            kept |= dict(bbox=box, area=self.annotation["area"])
            return "whole", kept | self._segmentation(place)
        if self.mask is None:
            x, y, end, low = max(x, left), max(y, top), min(end, right), min(low, bottom)
            box, area = [x - left, y - top, end - x, low - y], (end - x) * (low - y)
            total = self.annotation["bbox"][2] * self.annotation["bbox"][3]
        else:
            rows, columns = np.nonzero(self.mask[top:bottom, left:right])
            area, total, box = len(rows), self.mask_area, []
            if area:
                x, y = int(columns.min()), int(rows.min())
                box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
        if not area or area < min_area_ratio * total:
            return "dropped", None
        return "parts", kept | dict(bbox=box, area=area) | self._segmentation(place, cut=True)

    @cached_property
    def mask(self) -> NDArray[np.uint8] | None:
        """The bitmap (H, W), None if only the box is annotated."""
        return decode_segmentation(self.annotation.get("segmentation") or [], self.size)

    @cached_property
    def mask_area(self) -> int:
        """The pixels of the mask."""
        return 0 if self.mask is None else int(np.count_nonzero(self.mask))

    def _segmentation(self, place: Place, cut: bool = False) -> dict[str, Any]:
        """Return the key `segmentation` of the annotation in a patch; nothing without a mask."""
        left, top, right, bottom = place
        polygons = self.annotation.get("segmentation")
        if isinstance(polygons, list) and polygons and not cut:
            moved = [(np.reshape(p, (-1, 2)) - (left, top)).ravel().tolist() for p in polygons]
            return dict(segmentation=moved)
        if self.mask is None:
            return {}
        encoded = encode_mask(self.mask[top:bottom, left:right])
        return dict(segmentation=dict(encoded, counts=encoded["counts"].decode()))
