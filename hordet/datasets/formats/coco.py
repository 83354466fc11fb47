"""The one reader of COCO's annotation files: of the checks, training, evaluation and slicing.

What says the same in another way is read: UTF-8 with a mark, UTF-16, 1.0 for 1, a lone polygon.
What follows from the rest of the file or from the images is computed and noted. Nothing is refused
here but a file that cannot be read at all; `hordet.datasets.checks.coco` judges the items.

pycocotools, which mmdet's data sets and metrics read with, knows plain files alone.
`CocoFile.plain` says whether this one is; a run reads a copy of one that is not
(`hordet.datasets.plain_copies`).
"""

import json
import locale
import os
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from pycocotools import mask as coco_mask

from hordet.errors import DatasetError, list_first
from hordet.ops.run_lengths import find_bad_counts

# Beyond it no image has a pixel, and pycocotools, which counts in 32 bits, ends the process.
FARTHEST = 1e6
_ENCODINGS = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252")


@dataclass
class CocoFile:
    """An annotation file as it is meant.

    Attributes:
        path: The file.
        content: `images`, `categories` and, unless it has none, `annotations` are lists of dicts.
            Ids and sizes that are whole are int. Where it could be computed, no key is missing.
        notes: What was read another way than it is written, or computed, a sentence each.
        plain: Whether pycocotools finds the same in the file itself.
        named: What names the file: a setting or an option, for messages with a cure.
    """

    path: Path
    content: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    plain: bool = True
    named: str = "ann_file"

    @property
    def images(self) -> list[dict[str, Any]]:
        """The entries of images."""
        return self.content["images"]

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """The objects; none if the file has no such list."""
        return self.content.get("annotations") or []

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The categories."""
        return self.content["categories"]


@dataclass(frozen=True)
class ObjectCounts:
    """How many objects of a file can be trained on, and as what.

    Attributes:
        objects: All of them.
        crowds: Those with iscrowd=1, which training leaves out.
        without_mask: Ids of those that have no mask, crowds included.
    """

    objects: int
    crowds: int
    without_mask: list[Any]

    @property
    def with_mask(self) -> int:
        """Number of objects that have a mask."""
        return self.objects - len(self.without_mask)


def count_objects(annotations: Sequence[dict[str, Any]]) -> ObjectCounts:
    """Count objects, crowds, and objects without a mask.

    Args:
        annotations: Of a `CocoFile`.
    """
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in annotations)
    without = [a.get("id") for a in annotations if not has_mask(a)]
    return ObjectCounts(len(annotations), crowds, without)


def has_mask(annotation: dict[str, Any]) -> bool:
    """Tell whether an object has run lengths or a polygon of at least three points."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return bool(segmentation)
    return isinstance(segmentation, list) and any(map(is_polygon, segmentation))


def is_polygon(value: Any) -> bool:
    """Tell whether a value is a flat list of at least three x, y pairs."""
    return (
        isinstance(value, list)
        and len(value) >= 6
        and not len(value) % 2
        and all(map(is_coordinate, value))
    )


def read_coco(
    path: Path,
    root: Path,
    scored: bool = True,
    folder: Path | None = None,
    named: str = "ann_file",
) -> CocoFile:
    """Read an annotation file.

    Args:
        path: The file.
        root: Folder whose JSON files are named if it is not there.
        scored: Whether it must have annotations.
        folder: Of its images: where it lacks their sizes these are read from the images, and file
            names with backslashes or %20 are compared with what is there.
        named: What names the file, a setting or an option.

    Raises:
        DatasetError: It is not there, in an encoding that JSON does not have, cut off, or has not
            COCO's lists. The message says which, and the cure.
    """
    if not path.is_file():
        near = sorted(str(file.relative_to(root)) for file in root.glob("*/*.json"))
        there = (
            f"{root} holds {list_first(near)}" if near else f"no folder in {root} holds any JSON"
        )
        raise DatasetError(f"There is no annotation file {path}; {there}. Correct {named}.")
    content, encoding = read_json(path)
    wanted = ("images", "categories") + (("annotations",) if scored else ())
    if not isinstance(content, dict) or any(
        not isinstance(content.get(key), list)
        or not all(isinstance(item, dict) for item in content[key])
        for key in wanted
    ):
        got = list_first(list(content), 8) if isinstance(content, dict) else type(content).__name__
        raise DatasetError(
            f"{path} is not a COCO annotation file: it must be an object with the lists "
            f"{', '.join(wanted)}, got {got}. Convert it to COCO's format."
        )
    _refuse_repeated_keys(path, encoding)
    file = CocoFile(path, content, named=named)
    ascii_alone = encoding == "ascii"
    if not ascii_alone and encoding != locale.getpreferredencoding(False).lower():
        file.plain = False
    _read_whole_numbers(file)
    if folder is not None:
        _read_names(file, folder)
        _measure_images(file, folder)
    if scored:
        _complete_annotations(file)
    return file


def read_json(path: Path) -> tuple[Any, str]:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Returns:
        Its content, and the encoding: 'ascii', 'utf-8' and others, as Python names them.

    Raises:
        DatasetError: It cannot be read, is of another encoding, or cut off.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error}. Check that you may read it.") from error
    encoding = "ascii" if raw.isascii() and b"\0" not in raw[:4] else json.detect_encoding(raw)
    try:
        # As json.loads does; some exporters cut a name within a pair of surrogates.
        return json.loads(raw.decode(encoding, "surrogatepass")), encoding
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not in UTF-8, the encoding of JSON (byte {raw[error.start]:#04x} at "
            f"{error.start:,}){_guess_encoding(raw)}. Convert it: "
            f"iconv -f {_guess(raw) or 'ENCODING'} -t UTF-8 {path.name} > new.json"
        ) from error
    except RecursionError as error:
        raise DatasetError(
            f"{path} nests lists too deeply to be annotations. Export it again."
        ) from error
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise DatasetError(
                f"{path} holds a whole number of more than 4,300 digits, which nothing in an "
                "annotation file is. Take it out or export the file again."
            ) from error
        raise DatasetError(
            f"{path} is not a complete JSON file ({error}). Fetch or export it again."
        ) from error


def _refuse_repeated_keys(path: Path, encoding: str) -> None:
    """Refuse a file with a list twice, as of two files joined by hand: JSON readers keep the last.

    Raises:
        DatasetError: `images`, `annotations` or `categories` stands in it twice.
    """
    raw = path.read_bytes()
    keys = ("images", "annotations", "categories")
    if all(raw.count(f'"{key}"'.encode(encoding.removesuffix("-sig"))) < 2 for key in keys):
        return
    outermost: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [key for key, _ in pairs]  # the last object that ends is the whole

    json.loads(raw.decode(encoding, "surrogatepass"), object_pairs_hook=note)
    twice = [key for key in find_repeated(outermost) if key in keys]
    if twice:
        raise DatasetError(
            f"{path} has {' and '.join(twice)} twice, of which JSON readers keep the last alone. "
            "Join the lists, with an id of its own for each item."
        )


def _guess(raw: bytes) -> str:
    """Name an encoding in which bytes are JSON, or nothing."""
    for encoding in _ENCODINGS:
        try:
            json.loads(raw.decode(encoding))
        except (ValueError, RecursionError):
            continue
        return {"gb18030": "GBK"}.get(encoding, encoding.upper())
    return ""


def _guess_encoding(raw: bytes) -> str:
    guess = _guess(raw)
    return f"; it can be read as {guess}" if guess else ""


def _read_whole_numbers(file: CocoFile) -> None:
    """Make ids and sizes that are whole int; JSON of other languages has 1.0."""
    changed = 0
    keys = {
        "images": ("id", "width", "height"),
        "annotations": ("id", "image_id", "category_id", "iscrowd"),
        "categories": ("id",),
    }
    for part, names in keys.items():
        for item in file.content.get(part) or ():
            for name in names:
                value = item.get(name)
                if isinstance(value, float) and value.is_integer():
                    item[name] = int(value)
                    changed += 1
            if isinstance(item.get("iscrowd"), bool):
                item["iscrowd"] = int(item["iscrowd"])
                changed += 1
    if changed:
        file.plain = False


def _read_names(file: CocoFile, folder: Path) -> None:
    """Read file names in another spelling, where that is how a file is found."""
    stated = [i for i in file.images if isinstance(i.get("file_name"), str) and i["file_name"]]
    found = resolve_names(folder, [image["file_name"] for image in stated])
    changed = [i for i in stated if found.get(i["file_name"], i["file_name"]) != i["file_name"]]
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for image in changed:
        name = image["file_name"]
        image["file_name"] = found[name]
        accents = found[name] != spell_path(name)
        kinds["accents" if accents else "spelling"].append((name, found[name]))
    if changed:
        file.plain = False
    for kind, pairs in kinds.items():
        name, place = pairs[0]
        number = f"{len(pairs)} of {len(file.images)} images of {file.path} have file names"
        if kind == "spelling":
            words = f"with backslashes or URL escapes ({name}), read as {place}"
        else:  # both look alike
            words = (
                f"in another Unicode form than their files, accents as one character or as two "
                f"({name}: {ascii(name)}), read as the files are called ({ascii(place)})"
            )
        file.notes.append(f"{number} {words}.")


def resolve_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Find the files that names mean, as they are or in another spelling of the same text.

    Args:
        folder: From which the names start.
        names: As an annotation file has them.

    Returns:
        The name of the file, from the folder, by each name that has one: the name itself; or with
        slashes for backslashes and characters for URL escapes such as %20; or with accents in
        Unicode's other form (NFC or NFD).
    """
    left = [*dict.fromkeys(names)]
    found: dict[str, str] = {}
    for spell in _SPELLINGS:
        spelled = {name: spell(name) for name in left}
        if spell is not _SPELLINGS[0]:
            spelled = {name: other for name, other in spelled.items() if other != name}
        if not spelled:
            continue
        absent = {*find_missing_files(folder, spelled.values())}
        found |= {n: s for n, s in spelled.items() if os.path.join(folder, s) not in absent}
        left = [name for name in left if name not in found]
    return found


def spell_path(name: str) -> str:
    """Spell a path as it is on a disk: slashes, and characters for URL escapes such as %20."""
    return unquote(name).replace("\\", "/")


_SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    spell_path,
    lambda name: unicodedata.normalize("NFC", spell_path(name)),
    lambda name: unicodedata.normalize("NFD", spell_path(name)),
)


def _measure_images(file: CocoFile, folder: Path) -> None:
    """Read sizes that the file lacks from the images, turned as they are loaded."""
    lacking = [i for i in file.images if i.get("width") is None or i.get("height") is None]
    measured = 0
    for image in lacking:
        try:
            size = read_size(folder / image["file_name"])
        except Exception:  # Pillow's formats share no type of error; the check names the image
            continue
        image["width"], image["height"] = size
        measured += 1
    if measured:
        file.plain = False
        file.notes.append(
            f"{measured} of {len(file.images)} images of {file.path} have no width or height; they "
            "are read from the images."
        )


def read_size(path: Path) -> tuple[int, int]:
    """Read the width and height of an image from its header, turned as it is loaded."""
    with Image.open(path) as opened:
        size, orientation = read_stored_size(opened)
    return size[::-1] if orientation in (5, 6, 7, 8) else size


def read_stored_size(opened: Image.Image) -> tuple[tuple[int, int], int]:
    """Read the width and height of an image as they are stored, and its EXIF orientation."""
    size = opened.size
    if isinstance(opened, TiffImageFile):  # whose `size` some versions of Pillow have turned
        size = int(opened.tag_v2[IMAGEWIDTH]), int(opened.tag_v2[IMAGELENGTH])
    return size, opened.getexif().get(0x0112, 1)


def _complete_annotations(file: CocoFile) -> None:
    """Fill in what follows from the rest: id, iscrowd, box and area; unfold a lone polygon."""
    annotations = file.annotations
    if any("segments_info" in annotation for annotation in annotations):  # of panoptic maps
        return
    made: Counter[str] = Counter()
    sizes = {
        image["id"]: (image["height"], image["width"])
        for image in file.images
        if is_id(image.get("id")) and all(map(is_size, (image.get("height"), image.get("width"))))
    }
    numbers = [a["id"] for a in annotations if is_id(a.get("id"))]
    next_id = max(numbers, default=0) + 1
    for annotation in annotations:
        if annotation.get("id") is None:
            annotation["id"], next_id = next_id, next_id + 1
            made["id"] += 1
        if annotation.get("iscrowd") is None:
            annotation["iscrowd"] = 0
            made["iscrowd"] += 1
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and is_polygon(segmentation):
            annotation["segmentation"] = segmentation = [segmentation]
            file.plain = False
        elif isinstance(segmentation, dict):
            _read_run_lengths(file, segmentation)
        if isinstance(annotation.get("area"), str):
            continue  # words in place of a number are refused, not passed over
        lacks_area = not is_number(annotation.get("area")) or annotation["area"] <= 0
        if annotation.get("bbox") is None or lacks_area:
            box, area = measure_mask(annotation, sizes)
            if annotation.get("bbox") is None and box is not None:
                annotation["bbox"] = box
                made["bbox"] += 1
            box = annotation.get("bbox")
            if lacks_area and box is not None and is_box(box):
                annotation["area"] = box[2] * box[3] if area is None else area
                made["area"] += 1
    if made:
        file.plain = False
    sources = dict(bbox="masks", area="masks or boxes", id="their order", iscrowd="0 by default")
    for key, number in made.items():
        how = "0 is taken" if key == "iscrowd" else f"it is computed from {sources[key]}"
        file.notes.append(
            f"{number} of {len(annotations)} objects of {file.path} have no {key}; {how}."
        )


def _read_run_lengths(file: CocoFile, segmentation: dict[str, Any]) -> None:
    """Make the numbers of run lengths int where they are whole."""
    for key in ("size", "counts"):
        values = segmentation.get(key)
        if isinstance(values, list) and any(isinstance(value, float) for value in values):
            if all(isinstance(v, int) or is_number(v) and v.is_integer() for v in values):
                segmentation[key] = [int(value) for value in values]
                file.plain = False


def measure_mask(
    annotation: dict[str, Any], sizes: dict[Any, tuple[int, int]]
) -> tuple[list[float] | None, float | None]:
    """Return the box (x, y, width, height) and the area of an object's mask, None without one."""
    segmentation = annotation.get("segmentation")
    image_id = annotation.get("image_id")
    size = sizes.get(image_id) if is_id(image_id) else None
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if is_polygon(polygon)]
        if not polygons:
            return None, None
        xs = [x for polygon in polygons for x in polygon[0::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        return box, sum(map(_polygon_area, polygons))
    if not isinstance(segmentation, dict) or size is None or not is_run_lengths(segmentation, size):
        return None, None
    rle = segmentation
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *size)
    return [float(value) for value in coco_mask.toBbox(rle)], float(coco_mask.area(rle))


def _polygon_area(polygon: list[float]) -> float:
    """The area of a polygon by the shoelace formula."""
    xs, ys = polygon[0::2], polygon[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


def is_run_lengths(segmentation: dict[str, Any], size: tuple[int, int]) -> bool:
    """Tell whether run lengths are whole and of an image's (height, width)."""
    if segmentation.get("size") != list(size):
        return False
    counts, pixels = segmentation.get("counts"), size[0] * size[1]
    if isinstance(counts, str):
        return not find_bad_counts([counts], pixels)
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return False
    return sum(counts) == pixels


def find_missing_files(folder: Path, names: Iterable[str]) -> list[str]:
    """The paths among `folder / name` at which there is no file."""
    # One look at each folder: asking for each file takes minutes on network storage.
    wanted = defaultdict(list)
    for path in names:
        parent, name = os.path.split(os.path.join(folder, path))
        wanted[parent].append(name)
    missing = []
    for parent, names_there in wanted.items():
        there = _list_names(parent) if os.path.isdir(parent) else set()
        missing += [os.path.join(parent, name) for name in names_there if name not in there]
    return missing


def _list_names(folder: str) -> set[str]:
    """The names of the files in a folder; a link to nothing is none."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def find_repeated(values: Iterable) -> list:
    """The values that occur more than once, each once."""
    return [value for value, number in Counter(values).items() if number > 1]


def is_number(value: object) -> bool:
    """Whether a value read from JSON is a finite number."""
    # Whole numbers of JSON may be larger than any float; NaN is not at most anything.
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def is_coordinate(value: object) -> bool:
    """Whether a value read from JSON is a number of pixels that an image may have."""
    return is_number(value) and abs(value) < FARTHEST  # type: ignore[arg-type]


def is_id(value: object) -> bool:
    """Whether a value read from JSON is a whole number; `read_coco` has made 1.0 one."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_size(value: object) -> bool:
    """Whether a value read from JSON is a number of pixels of an image's side."""
    return is_id(value) and 0 < value < FARTHEST  # type: ignore[operator]


def is_box(value: object) -> bool:
    """Whether a value read from JSON is four numbers of pixels."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_coordinate, value))
