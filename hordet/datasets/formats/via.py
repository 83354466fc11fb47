"""VGG Image Annotator (VIA) 1 and 2: JSON of a project or of its annotations.

https://www.robots.ox.ac.uk/~vgg/software/via: regions are rect, polygon, circle or ellipse; which
attribute of a region is its class, the user of the tool decides.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hordet.datasets.formats.coco import read_json
from hordet.datasets.formats.image_index import Files, ImageIndex, read_number, split_of
from hordet.datasets.formats.labelme import FOLDERS
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
)
from hordet.datasets.formats.rings import find_bounds, outline_ellipse
from hordet.errors import DatasetError, list_first

# Names of the attribute that holds the class, where regions have several.
_USUAL = ("label", "class", "category", "name", "type", "object", "class_name", "classname")
ONLY = "object"  # the class of regions without attributes


def list_entries(content: Any) -> list[dict[str, Any]] | None:
    """Return the entries of images of a VIA file; None if it is none."""
    if not isinstance(content, dict):
        return None
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict) or not entries:
        return [] if "_via_img_metadata" in content else None
    if all(isinstance(e, dict) and {"filename", "regions"} <= e.keys() for e in entries.values()):
        return list(entries.values())
    return None


def read_via(files: Files, names: Sequence[str]) -> AnnotatedData:
    """Read VIA's JSON files.

    Args:
        files: What lies below the root.
        names: The JSON files, relative to the root.

    Raises:
        DatasetError: A file cannot be read, or regions have several attributes and it is unclear
            which is the class.
    """
    root, account = files.root, Account()
    index = ImageIndex(files)
    read: list[tuple[str, dict[str, Any], list[Any]]] = []
    for name in names:
        for entry in list_entries(read_json(root / name)[0]) or []:
            regions = entry["regions"] or []
            regions = [*regions.values()] if isinstance(regions, dict) else regions
            if not isinstance(regions, list):
                what = f"entries' regions are {type(regions).__name__}, no list"
                account.note(what, "Export the project again.", f"{name}: {entry['filename']}")
                regions = []
            read.append((name, entry, regions))
    whole = [r for *_, regions in read for r in regions if isinstance(r, dict)]
    attribute = _find_attribute(whole, ", ".join(names))
    if attribute is None and any(regions for *_, regions in read):
        for name in names:
            account.note(
                f"VIA files give their regions no attribute: all are of one class, '{ONLY}'",
                "",
                name,
            )
    images: list[AnnotatedImage] = []
    classes: dict[str, None] = {}
    owners: dict[str, AnnotatedImage] = {}
    for name, entry, regions in read:
        account.found += len(regions)
        stated = str(entry["filename"])
        place, why = index.find(stated, name, FOLDERS)
        if place is None:
            account.note(f"entries of images are left out: {why}", "Put the images there.", stated)
            account.drop(why, "Put the images there.", f"{name}: {stated}", len(regions))
            continue
        image = owners.get(place)
        if image is None:
            image = index.open_image(place, account, split=split_of(name) or split_of(place))
            if image is None:
                account.drop("their image cannot be opened", "Fetch it again.", place, len(regions))
                continue
            owners[place] = image
            images.append(image)
        for number, region in enumerate(regions):
            where = f"{name}: {stated}, region {number}"
            if not isinstance(region, dict):
                account.drop("the region is no object of JSON", "Correct it.", where)
                continue
            label = _read_label(region, attribute)
            if not label:
                account.drop(f"no value of the attribute {attribute}", "Choose one.", where)
                continue
            item = _read_region(region.get("shape_attributes"), label, account, where)
            if item is not None:
                classes.setdefault(label)
                image.add(item, account, where)
    index.add_unannotated(images, account, "entry in the VIA file")
    return AnnotatedData("VIA", root, sorted(classes), images, account)


def _find_attribute(regions: Sequence[dict[str, Any]], where: str) -> str | None:
    """Return the attribute that holds the class; None if no region has one."""
    counts: Counter[str] = Counter()
    for region in regions:
        attributes = region.get("region_attributes")
        if isinstance(attributes, dict):
            counts.update(key for key, value in attributes.items() if value not in ("", {}, None))
    if len(counts) <= 1:
        return next(iter(counts), None)
    usual = [key for word in _USUAL for key in counts if key.strip().casefold() == word]
    if usual:
        return usual[0]
    raise DatasetError(
        f"The regions of {where} have the attributes {list_first(sorted(counts))}, and none is "
        f"called {list_first(_USUAL[:3])}: rename the one that holds the class to 'label' in VIA."
    )


def _read_label(region: dict[str, Any], attribute: str | None) -> str:
    if attribute is None:
        return ONLY
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(value, dict):  # of checkboxes
        chosen = [key for key, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else ""
    return str(value if value is not None else "").strip()


def _read_region(shape: Any, label: str, account: Account, place: str) -> AnnotatedObject | None:
    shape = shape if isinstance(shape, dict) else {}
    kind = str(shape.get("name"))
    keys = dict(rect="x y width height", circle="cx cy r", ellipse="cx cy rx ry")
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        points = (
            list(zip(xs, ys, strict=False)) if isinstance(xs, list) and isinstance(ys, list) else []
        )
        values = [read_number(value) for point in points for value in point]
        ring = [value for value in values if value is not None]
        if len(ring) < 6 or len(ring) < len(values) or len(xs or []) != len(ys or []):
            account.drop("a polygon of fewer than three points", "Draw it again.", place)
            return None
        return AnnotatedObject(label, find_bounds([ring]), [ring])
    if kind not in keys:
        account.drop(
            f"regions of type {kind[:30]}, which enclose nothing",
            "Outline them by polygons, rectangles, circles or ellipses.",
            place,
        )
        return None
    found = [read_number(shape.get(key)) for key in keys[kind].split()]
    numbers = [value for value in found if value is not None]
    if len(numbers) < len(found):
        account.drop(f"a {kind} whose numbers are missing", "Draw it again.", place)
        return None
    if kind == "rect":
        return AnnotatedObject(label, (numbers[0], numbers[1], numbers[2], numbers[3]))
    x, y, *radii = numbers
    angle = read_number(shape.get("theta")) or 0.0
    ring = outline_ellipse(x, y, radii[0], radii[-1], angle)
    return AnnotatedObject(label, find_bounds([ring]), [ring])
