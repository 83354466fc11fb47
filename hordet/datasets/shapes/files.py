"""`shapes`: the data set that hordet draws itself, with its labels, the same on every machine.

One folder serves all tasks, in the layouts that mmdet and mmseg read:

    annotations/instances_{train,val}.json    COCO: polygons, or RLE for what no polygon can hold
    {train,val}/000001.png                    images
    labels/{train,val}/000001.png             semantic maps: 0 = background, i + 1 = class i
    annotations/panoptic_{train,val}.json     with `stuff`: COCO's panoptic layout, the background
    annotations/panoptic_{train,val}/         being the first class of stuff

Instance segmentation reads the JSON, class i of `classes` having category id i + 1. Semantic
segmentation reads the maps either with the background as a class of its own, `("background",
*classes)`, or in the manner of ADE20K, where 0 is "other" and left out: `classes` and
`reduce_zero_label=True`. Masks, boxes, areas and maps all speak of the visible part of an object.
"""

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from hordet.datasets.formats.panoptic import describe_segments, list_panoptic_categories
from hordet.datasets.shapes.drawing import OUTLINES, draw

DEFAULT_CLASSES = tuple(OUTLINES)[:6]
# Raise it whenever the images or labels of the same settings change: it keeps caches apart.
VERSION = 1
MAX_CLASSES = 254
"""One value of a uint8 map is the background, 0, and one is kept for pixels to ignore, 255."""


def write_shapes(
    root: str | Path,
    *,
    num_train: int = 400,
    num_val: int = 100,
    size: tuple[int, int] = (128, 128),
    classes: Sequence[str] = DEFAULT_CLASSES,
    stuff: Sequence[str] = (),
    odds: Sequence[float] | None = None,
    seed: int = 0,
) -> Path:
    """Write a shapes data set to a new folder; it appears whole or not at all.

    Args:
        root: The folder to make; it must not exist, or be empty.
        num_train: Number of training images, at least 1.
        num_val: Number of validation images, at least 1.
        size: Height and width of the images, pixels, each at least 32.
        classes: Class names without repeats, 1 to 254. Class i is drawn as shape i modulo the
            number of shapes; with more classes than shapes its hue depends on the class too.
        stuff: Further class names; given, panoptic annotations are written too, in which the
            background is the first of them.
        odds: How probable each class is, with a sum of 1; None: all alike.
        seed: Seed of the images; equal settings give equal bytes.

    Returns:
        `root` as a path.

    Raises:
        ValueError: A setting is out of its range.
        FileExistsError: `root` is there already and holds something.
    """
    root = Path(root)
    classes = tuple(classes)
    _check_settings(num_train, num_val, size, classes, tuple(stuff))
    if odds is not None and (len(odds) != len(classes) or not math.isclose(sum(odds), 1)):
        raise ValueError(f"odds={odds} must be one for each of {len(classes)} classes, in all 1.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} exists already; name a new folder or remove it first.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        whole = Path(scratch) / "shapes"
        for split, number, first_id in (("train", num_train, 1), ("val", num_val, num_train + 1)):
            image_ids = range(first_id, first_id + number)
            _write_split(whole, split, image_ids, size, classes, tuple(stuff), odds, seed)
        try:
            whole.rename(root)
        except OSError as error:
            if root.is_dir():
                raise FileExistsError(f"{root} was made by another process meanwhile.") from error
            raise
    return root


def _check_settings(
    num_train: int,
    num_val: int,
    size: tuple[int, int],
    classes: tuple[str, ...],
    stuff: tuple[str, ...],
) -> None:
    """Raise ValueError if a setting of `write_shapes` is out of its range."""
    if num_train < 1 or num_val < 1:
        raise ValueError(f"num_train={num_train} and num_val={num_val}: each must be at least 1.")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size={size} must be a height and a width of at least 32 pixels.")
    if not 1 <= len(classes) <= MAX_CLASSES or len(set(classes)) != len(classes):
        raise ValueError(
            f"classes must be 1 to {MAX_CLASSES} different names, got {len(classes)} names, "
            f"{len(set(classes))} of them different."
        )
    if len({*classes, *stuff}) != len(classes) + len(stuff):
        raise ValueError(f"stuff={stuff} must be names that differ from one another and classes.")


def _write_split(
    root: Path,
    split: str,
    image_ids: range,
    size: tuple[int, int],
    classes: tuple[str, ...],
    stuff: tuple[str, ...],
    odds: Sequence[float] | None,
    seed: int,
) -> None:
    """Write images, semantic maps and COCO annotations of one split under `root`."""
    folders = [root / split, root / "labels" / split, root / "annotations"]
    folders += [root / "annotations" / f"panoptic_{split}"] if stuff else []
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict] = []
    annotations: list[dict] = []
    segments: list[dict] = []
    for image_id in image_ids:
        # Each image has its own generator, so that it does not depend on how many come before.
        rng = np.random.default_rng([seed, image_id])
        drawing = draw(rng, size, len(classes), int(rng.integers(2, 7)), odds)
        name = f"{image_id:06d}.png"
        values = np.array([0, *(label + 1 for label in drawing.labels)], np.uint8)
        _write_png(folders[0] / name, drawing.image[..., ::-1])
        _write_png(folders[1] / name, values[drawing.objects])
        images.append(dict(id=image_id, file_name=name, height=size[0], width=size[1], license=1))
        for index, label in enumerate(drawing.labels):
            annotation_id = len(annotations) + 1
            mask = drawing.objects == index + 1
            annotations.append(
                dict(id=annotation_id, image_id=image_id, category_id=label + 1, iscrowd=0)
                | describe_mask(mask)
            )
        if stuff:
            ids, infos = describe_segments(drawing.objects, drawing.labels, len(classes))
            _write_png(folders[3] / name, ids)
            segments.append(dict(image_id=image_id, file_name=name, segments_info=infos))
    coco = dict(
        info=dict(description=f"hordet shapes, {split}", version=str(VERSION), seed=seed),
        licenses=[
            dict(id=1, name="CC0 1.0", url="https://creativecommons.org/publicdomain/zero/1.0/")
        ],
        images=images,
        annotations=annotations,
        categories=[
            dict(id=index + 1, name=name, supercategory="shape")
            for index, name in enumerate(classes)
        ],
    )
    (folders[2] / f"instances_{split}.json").write_text(json.dumps(coco), encoding="utf-8")
    if stuff:
        coco.update(annotations=segments, categories=list_panoptic_categories(classes, stuff))
        (folders[2] / f"panoptic_{split}.json").write_text(json.dumps(coco), encoding="utf-8")


def _write_png(path: Path, image: np.ndarray) -> None:
    """Write a uint8 image, (height, width) or (height, width, 3) in BGR."""
    # Encoded in memory: cv2.imwrite cannot open some paths on Windows and reports no reason.
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def describe_mask(mask: np.ndarray) -> dict:
    """Return the bbox, area and segmentation of a mask in COCO's terms.

    Args:
        mask: (height, width), bool, not empty.

    Returns:
        `bbox` = [x, y, width, height] and `area` in pixels, and `segmentation`: a polygon where one
        polygon holds the mask to the pixel, compressed RLE otherwise (several parts, or a hole).
    """
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    polygon = _trace_border(mask)
    # Every vertex lies on a corner of a pixel, so the polygon must give back the very mask.
    if polygon and coco_mask.frPyObjects([polygon], *mask.shape)[0]["counts"] == rle["counts"]:
        segmentation: list | dict = [polygon]
    else:
        segmentation = dict(size=list(mask.shape), counts=rle["counts"].decode("ascii"))
    bbox = [float(value) for value in coco_mask.toBbox(rle)]
    return dict(bbox=bbox, area=float(coco_mask.area(rle)), segmentation=segmentation)


def _trace_border(mask: np.ndarray) -> list[float]:
    """Trace the outer border of a mask in one part, along pixels' edges: x1, y1, x2, y2, ...

    Returns:
        The polygon, or an empty list if the mask has several parts or a hole.
    """
    # cv2 follows the centers of border pixels. In an image four times as large these lie an eighth
    # of an original pixel within the true border, and rounding puts them on it.
    large = cv2.resize(mask.astype(np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) != 1:
        return []
    points = np.rint((contours[0][:, 0] + 0.5) / 4)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    return [float(value) for value in points.ravel()]
