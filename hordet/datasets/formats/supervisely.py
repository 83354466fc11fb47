"""Supervisely: meta.json with the classes, DATASET/ann/IMAGE.json beside DATASET/img/IMAGE.

https://docs.supervisely.com/customization-and-integration/00_ann_format_navi: polygons have holes
(interior), a bitmap is a PNG in base64 after zlib with the place of its top left pixel, and the
corners of a rectangle are its first and its last pixel.
"""

import base64
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from hordet.datasets.formats.coco import read_json
from hordet.datasets.formats.image_index import (
    Files,
    ImageIndex,
    name_split,
    read_files_of_images,
    read_number,
    split_of,
)
from hordet.datasets.formats.labelme import decode_png, place_mask
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    Ring,
)
from hordet.datasets.formats.rings import find_bounds, find_mask_bounds

FOLDERS = ("img", "images")
_MOST_BYTES = 1 << 28  # of an unpacked bitmap


def is_meta(content: Any) -> bool:
    """Tell whether the content of meta.json is Supervisely's."""
    classes = content.get("classes") if isinstance(content, dict) else None
    return isinstance(classes, list) and all(isinstance(c, dict) and "title" in c for c in classes)


def read_supervisely(files: Files, names: Sequence[str]) -> AnnotatedData:
    """Read Supervisely's JSON files.

    Args:
        files: What lies below the root.
        names: The annotation files, relative to the root, without meta.json.

    Raises:
        DatasetError: meta.json cannot be read.
    """
    root, account = files.root, Account()
    index = ImageIndex(files)
    classes: dict[str, None] = {}
    for name in files.names:
        if PurePosixPath(name).name == "meta.json":
            content, _ = read_json(root / name)
            if is_meta(content):
                classes.update((str(each["title"]), None) for each in content["classes"])
    declared = {*classes}
    images: list[AnnotatedImage] = []
    for name, content, objects in read_files_of_images(root, names, "objects", account):
        stem = PurePosixPath(name).stem
        place, why = index.find(stem, name, FOLDERS)
        if place is None:  # older exports leave out the suffix of the image
            place, _ = index.find(stem, name, FOLDERS, by_stem=True)
        if place is None:
            account.note(f"JSON files are left out: {why}", "Put the images there.", name)
            account.drop(why, "Put the images there.", name, len(objects))
            continue
        size = content.get("size")
        stated = (size.get("width"), size.get("height")) if isinstance(size, dict) else None
        split = _find_split(content) or split_of(place)
        image = index.open_image(place, account, stated, split)
        if image is None:
            account.drop("their image cannot be opened", "Fetch it again.", name, len(objects))
            continue
        images.append(image)
        for number, each in enumerate(objects):
            where = f"{name}: object {number}"
            label = str(each.get("classTitle") or "").strip() if isinstance(each, dict) else ""
            if not label:
                account.drop("no classTitle", "Export them again.", where)
                continue
            if declared and label not in declared:
                account.note("objects have a class that meta.json does not list", "", where)
            item = _read_object(each, label, image, account, where)
            if item is not None:
                classes.setdefault(label)
                image.add(item, account, where)
    index.add_unannotated(images, account, "JSON file")
    return AnnotatedData("Supervisely", root, [*classes], images, account)


def _find_split(content: dict[str, Any]) -> str | None:
    """Return the split that the tags of an image say, as Supervisely's own splits do."""
    tags = content.get("tags")
    for tag in tags if isinstance(tags, list) else []:
        split = name_split(str(tag.get("name"))) if isinstance(tag, dict) else None
        if split:
            return split
    return None


def _read_object(
    each: dict[str, Any], label: str, image: AnnotatedImage, account: Account, place: str
) -> AnnotatedObject | None:
    kind = str(each.get("geometryType"))
    points = each.get("points")
    points = points if isinstance(points, dict) else {}
    if kind == "polygon":
        outline = _read_ring(points.get("exterior"))
        interior = points.get("interior")
        holes = [_read_ring(ring) for ring in interior] if isinstance(interior, list) else []
        if len(outline) < 6:
            account.drop("a polygon of fewer than three points", "Draw it again.", place)
            return None
        return AnnotatedObject(
            label, find_bounds([outline]), [outline], [hole for hole in holes if len(hole) >= 6]
        )
    if kind == "rectangle":
        corners = _read_ring(points.get("exterior"))
        if len(corners) != 4:
            account.drop("a rectangle without two corners", "Draw it again.", place)
            return None
        x, y, width, height = find_bounds([corners])
        return AnnotatedObject(label, (x, y, width + 1, height + 1))
    if kind == "bitmap":
        mask = _read_bitmap(each.get("bitmap"), image)
        if mask is None:
            account.drop("a bitmap that is damaged or empty", "Export it again.", place)
            return None
        return AnnotatedObject(label, find_mask_bounds(mask), mask=mask)
    account.drop(
        f"objects of type {kind[:30]}, which enclose nothing flat",
        "Outline them by polygons, rectangles or bitmaps.",
        place,
    )
    return None


def _read_ring(points: Any) -> Ring:
    """Return x, y, x, y, ... of a list of points; empty if it is none."""
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        return []
    values = [read_number(value) for point in points for value in point]
    ring = [value for value in values if value is not None]
    return ring if len(ring) == len(values) else []


def _read_bitmap(bitmap: Any, image: AnnotatedImage) -> dict[str, Any] | None:
    if not isinstance(bitmap, dict):
        return None
    origin = bitmap.get("origin")
    corner = [read_number(v) for v in origin] if isinstance(origin, list) else []
    try:
        packed = base64.b64decode(bitmap["data"])
        content = zlib.decompressobj().decompress(packed, _MOST_BYTES)
    except Exception:  # of several types: no text, no base64, no zlib
        return None
    crop = decode_png(base64.b64encode(content), image)
    if crop is None or len(corner) != 2 or corner[0] is None or corner[1] is None:
        return None
    return place_mask(crop, (round(corner[0]), round(corner[1])), image)
