"""LabelMe: a JSON file an image, with shapes: polygon, rectangle, circle, mask.

https://github.com/wkentaro/labelme. A circle is its center and a point on it; shapes of one label
and one group_id are parts of one object; a mask is a PNG in base64 whose top left pixel is the
first point. `imageData`, the image within the file, is never read.
"""

import base64
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from hordet.datasets.formats.image_index import (
    Files,
    ImageIndex,
    read_files_of_images,
    read_number,
    split_of,
)
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
)
from hordet.datasets.formats.rings import (
    draw_rings,
    encode_mask,
    find_bounds,
    find_mask_bounds,
    outline_ellipse,
)
from hordet.ops.files import write_whole

FOLDERS = ("images", "imgs", "img", "JPEGImages")
# Words for what is no class, in the labels.txt of LabelMe's own examples.
NO_CLASS = ("__ignore__", "_background_")


def read_labelme(files: Files, names: Sequence[str]) -> AnnotatedData:
    """Read LabelMe's JSON files.

    Args:
        files: What lies below the root.
        names: The JSON files, relative to the root.
    """
    root, account = files.root, Account()
    index = ImageIndex(files)
    images: list[AnnotatedImage] = []
    classes: dict[str, None] = {}
    owners: dict[str, str] = {}
    for name, content, shapes in read_files_of_images(root, names, "shapes", account):
        stated = content.get("imagePath")
        stated = stated if isinstance(stated, str) and stated.strip() else ""
        place, why = index.find(stated, name, FOLDERS) if stated else (None, "no image is named")
        if place is None:
            stem = PurePosixPath(name).stem
            place, other = index.find(stem, name, FOLDERS, by_stem=True)
            why = other if place else why
        if place is None:
            cure = "Put the images there."
            if content.get("imageData"):
                cure += (
                    " They are within the JSON files (imageData): labelme_export_json saves them."
                )
            account.note(f"JSON files are left out: {why}", cure, name)
            account.drop(why, cure, f"{name}: {stated}", len(shapes))
            continue
        if place in owners:
            account.drop(
                "two JSON files name one image",
                "Join them.",
                f"{owners[place]} and {name}",
                len(shapes),
            )
            continue
        owners[place] = name
        size = (content.get("imageWidth"), content.get("imageHeight"))
        image = index.open_image(place, account, size, split_of(name) or split_of(place))
        if image is None:
            account.drop("their image cannot be opened", "Fetch it again.", name, len(shapes))
            continue
        _read_shapes(shapes, name, image, classes, account)
        images.append(image)
    index.add_unannotated(images, account, "JSON file")
    return AnnotatedData("LabelMe", root, _order_classes(files, classes), images, account)


def _order_classes(files: Files, found: dict[str, None]) -> list[str]:
    """Return the classes in the order of labels.txt, if there is one that has them all."""
    for name in files.names:
        if PurePosixPath(name).name in ("labels.txt", "classes.txt"):
            text = (files.root / name).read_text(encoding="utf-8-sig", errors="replace")
            listed = [line.strip() for line in text.splitlines() if line.strip()]
            listed = [name for name in dict.fromkeys(listed) if name not in NO_CLASS]
            if {*found} <= {*listed}:
                return listed
    return sorted(found)


def _read_shapes(
    shapes: list[Any], name: str, image: AnnotatedImage, classes: dict[str, None], account: Account
) -> None:
    groups: dict[tuple[str, Any], AnnotatedObject] = {}
    done: list[tuple[AnnotatedObject, str]] = []
    for number, shape in enumerate(shapes):
        place = f"{name}: shape {number}"
        if not isinstance(shape, dict):
            account.drop("the shape is no object of JSON", "Correct it.", place)
            continue
        label = str(shape.get("label") or "").strip()
        if not label:
            account.drop("no label", "Name them.", place)
            continue
        if label in NO_CLASS:
            account.drop(f"the label {label}, which is no class", "", place)
            continue
        item = _read_shape(shape, label, image, account, place)
        if item is None:
            continue
        flags = shape.get("flags")
        item.is_crowd = isinstance(flags, dict) and bool(flags.get("iscrowd"))
        item.score = read_number(shape.get("score"))
        classes.setdefault(label)
        group = shape.get("group_id")
        if not isinstance(group, int | str):
            done.append((item, place))
        elif (key := (label, group)) in groups:
            account.merged += 1
            _merge(groups[key], item, image)
        else:
            groups[key] = item
            done.append((item, place))
    for item, place in done:
        image.add(item, account, place)


def _merge(item: AnnotatedObject, other: AnnotatedObject, image: AnnotatedImage) -> None:
    """Make another object a part of an object, in place."""
    size = (image.height, image.width)
    if item.mask or other.mask:
        pair = [
            each.mask or draw_rings(each.outlines or [_corners(each)], [], size)
            for each in (item, other)
        ]
        runs = coco_mask.merge(pair)
        item.mask = dict(size=list(size), counts=runs["counts"].decode())
        item.outlines = []
    else:
        if item.outlines or other.outlines:
            item.outlines = [
                ring for each in (item, other) for ring in each.outlines or [_corners(each)]
            ]
    x1, y1 = min(item.box[0], other.box[0]), min(item.box[1], other.box[1])
    x2 = max(item.box[0] + item.box[2], other.box[0] + other.box[2])
    y2 = max(item.box[1] + item.box[3], other.box[1] + other.box[3])
    item.box = (x1, y1, x2 - x1, y2 - y1)


def _corners(item: AnnotatedObject) -> list[float]:
    x, y, width, height = item.box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _read_shape(
    shape: dict[str, Any], label: str, image: AnnotatedImage, account: Account, place: str
) -> AnnotatedObject | None:
    kind = str(shape.get("shape_type") or "polygon")
    points = _read_points(shape.get("points"))
    least = dict(polygon=3, rectangle=2, circle=2, mask=1).get(kind)
    if least is None:
        account.drop(
            f"shapes of type {kind[:30]}, which enclose nothing",
            "Outline them by polygons, rectangles, circles or masks.",
            place,
        )
        return None
    if points is None or len(points) < least or kind == "circle" and len(points) != 2:
        account.drop(
            f"a {kind} with too few points, or points that are no numbers", "Draw it again.", place
        )
        return None
    flat = [value for point in points for value in point]
    if kind == "polygon":
        return AnnotatedObject(label, find_bounds([flat]), [flat])
    if kind == "rectangle":
        return AnnotatedObject(label, find_bounds([flat]))
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        ring = outline_ellipse(x, y, radius, radius)
        return AnnotatedObject(label, find_bounds([ring]), [ring] if radius else [])
    mask = _read_mask(shape.get("mask"), points[0], image)
    if mask is None:
        account.drop(
            "a mask that is no PNG, is empty, or larger than its image", "Draw it again.", place
        )
        return None
    return AnnotatedObject(label, find_mask_bounds(mask), mask=mask)


def _read_points(points: Any) -> list[tuple[float, float]] | None:
    if not isinstance(points, list):
        return None
    found = []
    for point in points:
        if not isinstance(point, list) or len(point) < 2:
            return None
        x, y = read_number(point[0]), read_number(point[1])
        if x is None or y is None:
            return None
        found.append((x, y))
    return found


def _read_mask(
    text: Any, corner: tuple[float, float], image: AnnotatedImage
) -> dict[str, Any] | None:
    """Decode a mask and place it in its image."""
    crop = decode_png(text, image)
    if crop is None:
        return None
    return place_mask(crop, (round(corner[0]), round(corner[1])), image)


def decode_png(text: Any, image: AnnotatedImage) -> np.ndarray | None:
    """Decode a mask in base64.

    Args:
        text: A PNG in base64.
        image: Of the mask, which has no more pixels: a file of few bytes may hold any number.

    Returns:
        Where it is not zero (H, W); None if it is no image, or too large.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
            if opened.width * opened.height > image.width * image.height:
                return None
            # Of color and alpha, the last channel says what is shown.
            values: Any = np.asarray(opened.convert("RGBA") if opened.mode == "P" else opened)
    except Exception:  # Pillow's formats share no type of error
        return None
    if values.ndim == 3:
        values = values[..., -1] if values.shape[-1] in (2, 4) else values.any(-1)
    return np.asarray(values != 0)


def place_mask(
    crop: np.ndarray, corner: tuple[int, int], image: AnnotatedImage
) -> dict[str, Any] | None:
    """Place a mask in its image by its left and top; None if nothing of it is within."""
    mask = np.zeros((image.height, image.width), bool)
    x, y = corner
    left, top = max(x, 0), max(y, 0)
    part = crop[max(-y, 0) :, max(-x, 0) :][
        : max(image.height - top, 0), : max(image.width - left, 0)
    ]
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return encode_mask(mask) if mask.any() else None


def write_labelme(data: AnnotatedData, out: Path, images_from: Path | None = None) -> Account:
    """Write a JSON file an image; its imagePath leads to the image where it lies.

    Args:
        data: What to write.
        out: The folder; files of several splits go to folders of their names.
        images_from: Folder that the names of the images start from.

    Returns:
        What the files cannot hold.
    """
    account = Account(found=data.number_of_objects)
    written: dict[Path, str] = {}
    for image in data.images:
        file = (out / (image.split or "") / image.name).with_suffix(".json")
        if file in written:
            account.drop(
                "another image, alike but for its suffix, has the JSON file",
                "Give each image a name of its own.",
                f"{image.name} and {written[file]}",
                len(image.objects),
            )
            continue
        written[file] = image.name
        path = image.name
        if images_from:
            path = os.path.relpath((images_from / image.name).resolve(), file.parent.resolve())
        shapes: list[dict[str, Any]] = []
        for number, item in enumerate(image.objects):
            shapes += _make_shapes(item, number, image)
        content: dict[str, Any] = dict(
            version="5.5.0", flags={}, shapes=shapes, imagePath=path.replace(os.sep, "/")
        )
        content |= dict(imageData=None, imageHeight=image.height, imageWidth=image.width)
        write_whole(file, json.dumps(content, indent=1, ensure_ascii=False))
    return account


def _make_shapes(item: AnnotatedObject, number: int, image: AnnotatedImage) -> list[dict[str, Any]]:
    common: dict[str, Any] = dict(label=item.label, group_id=None, description="")
    common["flags"] = {"iscrowd": True} if item.is_crowd else {}
    if item.score is not None:
        common["score"] = item.score
    if item.mask or item.holes:
        runs = item.mask or draw_rings(item.outlines, item.holes, (image.height, image.width))
        mask = coco_mask.decode(runs)
        rows, columns = np.nonzero(mask)
        if not len(rows):
            return []
        top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
        buffer = io.BytesIO()
        Image.fromarray(mask[top : bottom + 1, left : right + 1]).save(buffer, "PNG")
        text = base64.b64encode(buffer.getvalue()).decode()
        points = [[float(left), float(top)], [float(right), float(bottom)]]
        return [common | dict(points=points, shape_type="mask", mask=text)]
    if not item.outlines:
        x, y, width, height = item.box
        points = [[x, y], [x + width, y + height]]
        return [common | dict(points=points, shape_type="rectangle", mask=None)]
    group = number if len(item.outlines) > 1 else None
    return [
        common
        | dict(
            group_id=group,
            points=[list(point) for point in zip(ring[0::2], ring[1::2], strict=True)],
            shape_type="polygon",
            mask=None,
        )
        for ring in item.outlines
    ]
