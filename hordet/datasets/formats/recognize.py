"""Which annotation formats lie in a folder, by what the files hold, and the readers of each."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from hordet.datasets.formats.coco import read_json
from hordet.datasets.formats.coco_records import find_twins, read_coco_records
from hordet.datasets.formats.cvat import read_cvat
from hordet.datasets.formats.image_index import Files
from hordet.datasets.formats.instance_masks import list_mask_groups, read_instance_masks
from hordet.datasets.formats.labelme import read_labelme
from hordet.datasets.formats.maps_beside import find_map_end
from hordet.datasets.formats.record import AnnotatedData
from hordet.datasets.formats.supervisely import read_supervisely
from hordet.datasets.formats.via import list_entries, read_via
from hordet.datasets.formats.voc import read_voc
from hordet.datasets.formats.yolo import (
    find_settings,
    list_label_files,
    looks_like_labels,
    read_yolo,
)
from hordet.errors import DatasetError, list_first

# Names of the formats, as --format takes them, and for people.
FORMATS = {
    "coco": "COCO",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
    "labelme": "LabelMe",
    "cvat": "CVAT for images",
    "via": "VIA",
    "supervisely": "Supervisely",
    "masks": "one mask an instance",
    "maps": "label maps",
}
# COCO's other annotation files, which lie beside those of instances.
OTHER_KINDS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
_MAPS = ("annotations", "labels", "masks", "ann_dir", "SegmentationClass")
_IMAGES = ("images", "img", "imgs", "JPEGImages")
_LOOKED_AT = 20  # files of a folder and suffix that are opened to see what they are


@dataclass
class Seen:
    """What lies in a folder.

    Attributes:
        files: All of its files.
        found: Files of each format by its name in FORMATS, relative to the root.
        results: COCO's result files.
        others: JSON and XML files that are damaged or of no known format.
    """

    files: Files
    found: dict[str, list[str]] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Say what was seen, such as 'YOLO (data.yaml, labels/a.txt and 7 more)'."""
        parts = [f"{FORMATS[key]} ({list_first(names, 2)})" for key, names in self.found.items()]
        return ", ".join(parts)


def look_at(root: Path) -> Seen:
    """See which annotation formats lie in a folder.

    Args:
        root: The folder, or one annotation file within it.

    Raises:
        DatasetError: There is no such folder.
    """
    if root.is_file():
        folder = root.parent
        if folder.name.lower() == "annotations":  # the images lie beside that folder
            folder = folder.parent
        seen = look_at(folder)
        names = {root.relative_to(folder).as_posix()}
        chosen = {key: [n for n in those if n in names] for key, those in seen.found.items()}
        seen.found = {key: those for key, those in chosen.items() if those}
        return seen
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}. Name the folder that holds the data set.")
    files = Files(root)
    seen = Seen(files)
    found: dict[str, list[str]] = defaultdict(list)
    damaged = _look_at_json(files, found, seen)
    _look_at_xml(files, found, seen)
    labels = list_label_files(files)
    settings = find_settings(files)
    if settings or any(looks_like_labels(root / name) for name in labels[:_LOOKED_AT]):
        found["yolo"] = settings + labels
    if groups := list_mask_groups(files):
        found["masks"] = [name for names in groups.values() for name in names]
    if not found and _find_maps(root, files):
        found["maps"] = _find_maps(root, files)
    # The reader of these formats says what is the matter with a file.
    owners = [kind for kind in ("labelme", "supervisely") if kind in found]
    if damaged and (owners or not found):
        found[owners[0] if owners else "coco"] += damaged
    else:
        seen.others += damaged
    seen.found = dict(found)
    return seen


def _look_at_json(files: Files, found: dict[str, list[str]], seen: Seen) -> list[str]:
    """See what JSON files are; return those that are damaged."""
    damaged: list[str] = []
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in files.list_by_suffix(".json"):
        by_folder[name.rpartition("/")[0]].append(name)
    for names in by_folder.values():
        kinds: dict[str, list[str]] = defaultdict(list)
        for name in names[:_LOOKED_AT]:
            try:
                content, _ = read_json(files.root / name)
            except DatasetError:
                damaged.append(name)
                continue
            kind = _name_json(content, name)
            if kind == "results":
                seen.results.append(name)
            elif kind:
                kinds[kind].append(name)
        # Tools that write a file an image write thousands: those not opened are as the first ones.
        many = [kind for kind in kinds if kind in ("labelme", "supervisely")]
        if len(many) == 1:
            kinds[many[0]] += names[_LOOKED_AT:]
        for kind, those in kinds.items():
            found[kind] += those
    return damaged


def _name_json(content: Any, name: str) -> str | None:
    """Return the format of a JSON file by its keys, 'results', or None."""
    base = PurePosixPath(name).name
    if isinstance(content, list):
        first = content[0] if content else None
        keys = {"image_id", "category_id", "score"}
        return "results" if isinstance(first, dict) and keys <= first.keys() else None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("shapes"), list) and "imagePath" in content:
        return "labelme"
    if "images" in content and "categories" in content:
        return None if base.startswith(OTHER_KINDS) else "coco"
    if list_entries(content) is not None:
        return "via"
    if isinstance(content.get("objects"), list) and isinstance(content.get("size"), dict):
        return "supervisely"
    return None


def _look_at_xml(files: Files, found: dict[str, list[str]], seen: Seen) -> None:
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in files.list_by_suffix(".xml"):
        by_folder[name.rpartition("/")[0]].append(name)
    for names in by_folder.values():
        kinds = {_name_xml(files.root / name): name for name in names[:_LOOKED_AT]}
        if "voc" in kinds:
            others = {n for n in names[:_LOOKED_AT] if _name_xml(files.root / n) == "cvat"}
            found["voc"] += [name for name in names if name not in others]
        if "cvat" in kinds:
            found["cvat"] += [n for n in names[:_LOOKED_AT] if _name_xml(files.root / n) == "cvat"]
        if set(kinds) == {None}:
            seen.others += names


def _name_xml(path: Path) -> str | None:
    """Return the format of an XML file by its outermost element, without parsing it."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).replace(b"\0", b"")
    except OSError:
        return None
    found = re.search(rb"<(annotations?)[\s>]", start)
    return {b"annotation": "voc", b"annotations": "cvat"}[found[1]] if found else None


def _find_maps(root: Path, files: Files) -> list[str]:
    """Return the label maps of a folder as `measure_maps` finds them, some of them."""
    tables = [name for name in files.names if PurePosixPath(name).name == "_classes.csv"]
    if tables:
        return tables
    if any((root / name).is_dir() for name in _IMAGES):
        for folder in _MAPS:
            maps = [
                n
                for n in files.list_by_suffix(".png", ".bmp", ".gif")
                if n.startswith(f"{folder}/")
            ]
            if maps:
                return maps
    for place in ("", "train/", "training/"):
        if end := find_map_end(root / place):
            return [n for n in files.names if n.startswith(place) and n.endswith(end)]
    return []


def choose_format(seen: Seen, root: Path, named: str | None = None) -> str:
    """Return the one format of a folder.

    Args:
        seen: What lies there.
        root: The folder, for messages.
        named: The one that the user names, one of FORMATS.

    Raises:
        DatasetError: There is none, the named one is not there, or there are several.
    """
    if named:
        if named not in seen.found:
            raise DatasetError(
                f"{root} holds no annotations of {FORMATS[named]}; seen: "
                f"{seen.describe() or 'none'}. Leave out --format, or name one that is there."
            )
        return named
    if len(seen.found) == 1:
        return next(iter(seen.found))
    if not seen.found:
        suffixes = sorted({PurePosixPath(name).suffix.lower() or name for name in seen.files.names})
        raise DatasetError(
            f"{root} holds no annotations of a known format ({', '.join(FORMATS.values())}); files "
            f"there: {list_first(suffixes, 8) or 'none'}. Export from your tool as COCO or YOLO."
        )
    keys = list(seen.found)
    raise DatasetError(
        f"{root} holds annotations of several formats: {seen.describe()}. Say which to read: "
        f"--format {' or '.join(keys)}; or move the others away."
    )


def read_annotations(
    seen: Seen,
    root: Path,
    key: str,
    boxes_from: int | None = None,
    results: Path | None = None,
) -> AnnotatedData:
    """Read the annotations of a folder.

    Args:
        seen: What lies there.
        root: The folder.
        key: The format, one of FORMATS but 'maps'.
        boxes_from: Number of the first pixel in Pascal VOC's boxes; None to find it.
        results: COCO's result file, in place of the annotations.

    Raises:
        DatasetError: Nothing of it can be read, or its parts disagree.
    """
    files, names = seen.files, seen.found[key]
    readers = dict(labelme=read_labelme, cvat=read_cvat, via=read_via, supervisely=read_supervisely)
    if key == "coco":
        data = read_coco_records([files.root / name for name in names], files.root, results)
    elif key == "yolo":
        data = read_yolo(files)
    elif key == "voc":
        data = read_voc(files, names, boxes_from)
    elif key == "masks":
        data = read_instance_masks(files)
    else:
        data = readers[key](files, names)
    for name in seen.others:
        data.account.note(
            "JSON or XML files are damaged or of no known format, and are not read",
            "If they are annotations, export them again.",
            name,
        )
    for twins in find_twins(data.classes):
        data.account.note(
            "groups of classes differ in their spelling alone",
            "If they are one, write one name in all files.",
            twins,
        )
    if not data.images:
        raise DatasetError(
            f"{root} holds no image with annotations. " + " ".join(data.summarize()[1:])
        )
    return data
