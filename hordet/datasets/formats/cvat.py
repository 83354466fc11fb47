"""CVAT for images 1.1: one XML file for all images, with boxes, polygons, masks and ellipses.

https://docs.cvat.ai/docs/manual/advanced/xml_format: coordinates are edges from 0 in pixels; a
mask is run lengths along the rows of its crop, the first of zeros; polygons of one label and one
group_id are parts of one object.
"""

import math
import re
import xml.etree.ElementTree as tree
from collections.abc import Sequence

import numpy as np

from hordet.datasets.formats.image_index import (
    Files,
    ImageIndex,
    name_split,
    read_number,
    split_of,
)
from hordet.datasets.formats.labelme import FOLDERS, place_mask
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    Ring,
)
from hordet.datasets.formats.rings import (
    find_bounds,
    find_mask_bounds,
    outline_box,
    outline_ellipse,
)
from hordet.datasets.formats.safe_xml import get_text, read_xml
from hordet.errors import DatasetError

_SHAPES = ("box", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton")


def read_cvat(files: Files, names: Sequence[str]) -> AnnotatedData:
    """Read CVAT's XML files.

    Args:
        files: What lies below the root.
        names: The XML files, relative to the root.

    Raises:
        DatasetError: A file cannot be read, or is of a video.
    """
    root, account = files.root, Account()
    index = ImageIndex(files)
    images: list[AnnotatedImage] = []
    classes: dict[str, None] = {}
    owners: dict[str, AnnotatedImage] = {}
    for name in names:
        try:
            content = read_xml(root / name)
        except DatasetError as error:
            raise DatasetError(f"{root / name} {error}. Export it again.") from error
        if content.find("track") is not None:
            raise DatasetError(
                f"{root / name} is 'CVAT for video': export the task as 'CVAT for images 1.1' or "
                "COCO."
            )
        labels = [*content.iterfind("meta//label")]
        for label in labels:
            if get_text(label, "name") and not get_text(label, "parent"):
                classes.setdefault(get_text(label, "name"))
        declared = bool(labels)
        for element in content.iterfind("image"):
            shapes = [each for each in element if each.tag in _SHAPES]
            account.found += len(shapes)
            stated = element.get("name") or ""
            place, why = index.find(stated, name, FOLDERS)
            if place is None:
                account.note(
                    f"entries of images are left out: {why}", "Put the images there.", stated
                )
                account.drop(why, "Put the images there.", f"{name}: {stated}", len(shapes))
                continue
            image = owners.get(place)
            if image is None:
                split = name_split(element.get("subset") or "") or split_of(place)
                size = (element.get("width"), element.get("height"))
                image = index.open_image(place, account, size, split)
                if image is None:
                    account.drop(
                        "their image cannot be opened", "Fetch it again.", place, len(shapes)
                    )
                    continue
                owners[place] = image
                images.append(image)
            _read_shapes(shapes, f"{name}: {stated}", image, classes, declared, account)
    index.add_unannotated(images, account, "entry in the XML file")
    return AnnotatedData("CVAT for images", root, [*classes], images, account)


def _read_shapes(
    shapes: Sequence[tree.Element],
    where: str,
    image: AnnotatedImage,
    classes: dict[str, None],
    declared: bool,
    account: Account,
) -> None:
    groups: dict[tuple[str, str], AnnotatedObject] = {}
    done: list[tuple[AnnotatedObject, str]] = []
    for number, shape in enumerate(shapes, 1):
        place = f"{where}, shape {number}"
        label = (shape.get("label") or "").strip()
        if not label:
            account.drop("no label", "Name them.", place)
            continue
        if shape.tag in ("polyline", "points", "cuboid", "skeleton"):
            account.drop(
                f"shapes of type {shape.tag}, which enclose nothing flat",
                "Outline them by polygons, boxes or masks.",
                place,
            )
            continue
        item = _read_shape(shape, label, image)
        if item is None:
            account.drop(
                f"a {shape.tag} whose numbers are missing or damaged", "Export it again.", place
            )
            continue
        if label not in classes and declared:
            account.note("objects have a label that the meta part does not list", "", place)
        classes.setdefault(label)
        group = shape.get("group_id") or "0"
        first = groups.get((label, group))
        if group != "0" and shape.tag == "polygon" and first is not None:
            account.merged += 1
            first.outlines += item.outlines
            first.box = find_bounds(first.outlines)
            continue
        if group != "0" and shape.tag == "polygon":
            groups[label, group] = item
        done.append((item, place))
    for item, place in done:
        image.add(item, account, place)


def _read_shape(shape: tree.Element, label: str, image: AnnotatedImage) -> AnnotatedObject | None:
    if shape.tag == "polygon":
        ring = _read_points(shape.get("points") or "")
        return AnnotatedObject(label, find_bounds([ring]), [ring]) if ring else None
    keys = dict(box="xtl ytl xbr ybr", ellipse="cx cy rx ry", mask="left top width height")
    found = [read_number(shape.get(key)) for key in keys[shape.tag].split()]
    first, second, third, fourth = found
    if first is None or second is None or third is None or fourth is None:
        return None
    angle = math.radians(read_number(shape.get("rotation")) or 0.0)
    if shape.tag == "box":
        box = (first, second, third - first, fourth - second)
        if not angle or box[2] <= 0 or box[3] <= 0:
            return AnnotatedObject(label, box)
        ring = outline_box(box, angle)
        return AnnotatedObject(label, find_bounds([ring]), [ring])
    if shape.tag == "ellipse":
        ring = outline_ellipse(first, second, third, fourth, angle)
        return AnnotatedObject(label, find_bounds([ring]), [ring])
    if third * fourth > image.width * image.height:
        return None
    mask = _read_mask(shape.get("rle") or "", round(third), round(fourth))
    if mask is None:
        return None
    placed = place_mask(mask, (round(first), round(second)), image)
    return AnnotatedObject(label, find_mask_bounds(placed), mask=placed) if placed else None


def _read_points(text: str) -> Ring:
    """Return the ring of 'x,y;x,y;...', empty if it is none."""
    values = [read_number(word) for word in re.split("[,;]", text.strip().strip(";"))]
    ring = [value for value in values if value is not None]
    return ring if len(ring) == len(values) and len(ring) >= 6 and not len(ring) % 2 else []


def _read_mask(text: str, width: int, height: int) -> np.ndarray | None:
    """Decode run lengths along the rows, the first of zeros."""
    try:
        runs = [int(word) for word in text.split(",")]
    except ValueError:
        return None
    if min(runs) < 0 or sum(runs) != width * height:
        return None
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(height, width)
