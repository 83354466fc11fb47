"""Which image a name in an annotation file means: in which folder, and under which other name.

The checks, training, `hordet infer --annotations` and `hordet new-config` ask here alone. Names in
another spelling are read by `hordet.datasets.formats.coco.resolve_names`; what is there under
another name is offered as a corrected copy of the annotation file and never taken in silence.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from hordet.datasets.formats.coco import (
    CocoFile,
    find_missing_files,
    read_json,
    resolve_names,
    spell_path,
)
from hordet.datasets.formats.image_index import SUFFIXES
from hordet.datasets.plain_copies import write_copy
from hordet.errors import DatasetError, FileWriteError, list_first

_FETCH = "Fetch them, or correct data_prefix (img) or the data root."
# Of files below a root; network storage lists some thousands a second.
MOST_FILES = 500_000
# The share of the images that must be missing: single ones are missing, not in another place.
SYSTEMATIC = 0.5
# Words in the names of folders of label maps, which often have the names of the images.
_MAP_WORDS = {
    *("annotation", "annotations", "ann", "label", "labels", "mask", "masks", "gt", "groundtruth"),
    *("segmentation", "segmentations", "segmentationclass", "segmentationobject", "panoptic"),
    *("stuffthingmaps", "overlay", "overlays", "depth"),
}


def find_image_folder(root: Path, path: Path, names: Sequence[str], split: str) -> Path | None:
    """Find the folder from which the names of an annotation file start.

    The usual places come first, those around the annotation file before those of the data root: a
    delivery that was added has its own images beside its file, often under the names of others. The
    first place that holds any of the names is the folder: another one that holds more of them, such
    as that of the label maps, is not it.

    Args:
        root: Folder of the data; looked for there and two levels below.
        path: The annotation file.
        names: As the file has them.
        split: Name of the split, such as 'train'.

    Returns:
        The folder; None if none holds any of them.

    Raises:
        DatasetError: They are in no usual place, and several others hold some of them.
    """
    stem, beside = path.stem.removeprefix("instances_"), path.parent
    # A folder named after annotations is not one of images; its images are beside it.
    own = beside.parent if _is_of_maps(Path(beside.name), Path()) else beside
    usual = [
        start / place
        for start in (own, root)
        for place in (stem, split, f"images/{stem}", f"images/{split}", "images", "")
    ]
    for folder in dict.fromkeys([*usual, beside]):
        if folder.is_dir() and resolve_names(folder, names):
            return folder
    others = [p for p in sorted((*root.glob("*/"), *root.glob("*/*/"))) if p.is_dir()]
    found = {p: len(resolve_names(p, names)) for p in others if not _is_of_maps(p, root)}
    holding = [p for p, number in found.items() if number]
    whole = [p for p in holding if found[p] == len({*names})]
    if len(whole) == 1 or len(holding) == 1:
        return (whole or holding)[0]
    if not holding:
        return None
    shown = list_first([f"{p.relative_to(root).as_posix()} ({found[p]})" for p in holding])
    raise DatasetError(
        f"The {len(names)} images of {path} may lie in several folders of {root}: {shown}. Put "
        f"them into {root / split}, or write the folder before each file_name."
    )


def _is_of_maps(folder: Path, root: Path) -> bool:
    """Tell by its name whether a folder is one of label maps or the like."""
    parts = PurePosixPath(os.path.relpath(folder, root).replace(os.sep, "/")).parts
    return any({*re.split(r"[^a-z]+", part.lower())} & _MAP_WORDS for part in parts)


def propose_names(
    file: CocoFile, folder: Path, root: Path, likely: Path | None = None, fetch: str = _FETCH
) -> str:
    """Say how to set the paths of images right, from what lies below the data root.

    Args:
        file: The annotation file; each image has `file_name`, some of the files are missing.
        folder: Where they were looked for.
        root: The data root.
        likely: Folder whose files are meant first; `folder` by default.
        fetch: What to do where nothing is found.
    """
    stated = [image["file_name"] for image in file.images]
    missing = {*find_missing_files(folder, stated)}
    names = [name for name in stated if os.path.join(folder, name) in missing]
    files = _list_files(root)
    inside = os.path.relpath(likely or folder, root).replace(os.sep, "/")
    if len(names) < SYSTEMATIC * len(stated):
        return _point_out(names, stated, files, inside, fetch)
    common = _common_folders(stated, files)
    images = [place for place in common if not _is_of_maps(root / place, root)]
    if len(images) == 1:
        return (
            f"All of them lie in {root / images[0]}: set data_prefix=dict(img={images[0]!r}) of "
            "the data set."
        )
    if images:
        return (
            f"Files of these names lie in {list_first(images)}: set data_prefix=dict(img=...) to "
            "the one of the images."
        )
    if common:
        return (
            f"{fetch} Files of these names lie in {list_first(common)}, which holds label maps by "
            "its name."
        )
    matched = _match_below(names, stated, files, inside)
    if len(matched) < len(names):
        if len(matched) < SYSTEMATIC * len(names):
            return fetch
        return f"{fetch} {explain_matches(matched)}"
    places = {n: os.path.relpath(root / p, folder) for n, (p, _) in matched.items()}
    return f"{explain_matches(matched)} {offer_names(file, places)}"


def _point_out(
    names: Sequence[str],
    stated: Sequence[str],
    files: dict[str, list[str]],
    inside: str,
    fetch: str,
) -> str:
    """What to do about single missing images: some have another name beside the others."""
    there = {place for places in files.values() for place in places}
    own = {name: place for name in stated if (place := _join(inside, name)) in there}
    beside = [p for p in sorted(there - {*own.values()}) if _is_inside(p, inside)]
    matched = match_names(names, beside)
    return f"{fetch} {explain_matches(matched)}" if matched else fetch


def _match_below(
    names: Sequence[str], stated: Sequence[str], files: dict[str, list[str]], inside: str
) -> dict[str, tuple[str, str]]:
    """Match names with the files below a root; where some are in the folder, with those there."""
    places = sorted(place for found in files.values() for place in found)
    within = [place for place in places if _is_inside(place, inside)]
    if len(names) < len(stated):
        taken = {_join(inside, name) for name in stated}
        return match_names(names, [place for place in within if place not in taken])
    if inside != "." and len(matched := match_names(names, within)) == len(names):
        return matched
    root = Path()
    return match_names(names, [p for p in places if not _is_of_maps(root / Path(p).parent, root)])


def _join(inside: str, name: str) -> str:
    return os.path.normpath(os.path.join(inside, name)).replace(os.sep, "/")


def _is_inside(place: str, inside: str) -> bool:
    return inside == "." or place.startswith(f"{inside}/")


def offer_names(file: CocoFile, places: dict[str, str]) -> str:
    """Write a copy of an annotation file with other names and return a sentence that offers it.

    Args:
        file: The file.
        places: The name that is there, by the one in the file.
    """
    try:
        content, _ = read_json(file.path)
        for image in content["images"]:
            name = image.get("file_name")
            place = places.get(name) or places.get(spell_path(str(name)))
            if place:
                image["file_name"] = Path(place).as_posix()
        copy = write_copy(file.path, content, "paths")
    except (DatasetError, FileWriteError):
        return "Correct file_name in a copy of the file."
    return (
        f"A copy of the annotations with the names that are there lies in {copy}: look at "
        f"it and set {file.named} to it."
    )


def _list_files(root: Path) -> dict[str, list[str]]:
    """The files below a root, relative to it, by base name in lower case."""
    found: dict[str, list[str]] = defaultdict(list)
    number = 0
    for parent, _, files in os.walk(root, followlinks=True):
        for name in files:
            found[name.lower()].append((Path(parent) / name).relative_to(root).as_posix())
        number += len(files)
        if number > MOST_FILES:
            break
    return found


def _common_folders(names: Sequence[str], files: dict[str, list[str]]) -> list[str]:
    """The folders below which every name is found as it is written."""
    common: set[str] | None = None
    for name in names:
        places = files.get(PurePosixPath(name).name.lower(), [])
        holding = {p[: -len(name)].rstrip("/") for p in places if f"/{p}".endswith(f"/{name}")}
        common = holding if common is None else common & holding
        if not common:
            return []
    return sorted(common or ())


def _fold(base: str) -> str:
    return unicodedata.normalize("NFC", base).casefold()


def _strip(name: str) -> str:
    """A path without the query of an address, and without blanks around its base name."""
    path, _, query = name.partition("?")
    if query.startswith("d="):  # Label Studio: /data/local-files/?d=folder/a.png
        path = query[2:]
    return "".join(c if c.isprintable() else " " for c in spell_path(path)).strip()


def _unmark(base: str) -> str:
    """A base name without what Roboflow (a_png.rf.HASH.png) and Label Studio (HASH-a.png) add."""
    base = re.sub(r"^[0-9a-f]{8}-(?=.)", "", base)
    return re.sub(r"^(.+)_([a-z0-9]+)\.rf\.[0-9a-z]{8,}\.\w+$", r"\1.\2", base)


def _drop_suffix(base: str) -> str:
    path = PurePosixPath(base)
    return path.stem if path.suffix in SUFFIXES else base


_Form = Callable[[str], str]
# Each: what is said of such names, how a stated path is read, and how a base name is compared;
# stricter ones first. An empty word: said from the names themselves.
_FORMS: tuple[tuple[str, _Form, _Form], ...] = (
    ("", spell_path, _fold),
    ("without the blanks or the query around them", _strip, _fold),
    (
        "without the marks that Roboflow (.rf. and a hash) or Label Studio (a hash before it) adds",
        _strip,
        lambda base: _unmark(_fold(base)),
    ),
    ("with another ending", _strip, lambda base: _drop_suffix(_unmark(_fold(base)))),
)


def match_names(names: Iterable[str], places: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Match names in an annotation file with files, each with one at most.

    Args:
        names: The names.
        places: Paths of files.

    Returns:
        Of each name that one file alone can mean: the file, and in which way; '' if they differ in
        case or in the folders before them.
    """
    left, free = [*dict.fromkeys(names)], [*dict.fromkeys(places)]
    matched: dict[str, tuple[str, str]] = {}
    for words, read, compare in _FORMS:
        by_base = defaultdict(list)
        for place in free:
            if words.endswith("ending") and PurePosixPath(place).suffix.lower() not in SUFFIXES:
                continue
            by_base[compare(PurePosixPath(place).name)].append(place)
        chosen: dict[str, str] = {}
        for name in left:
            parts = PurePosixPath(read(name)).parts
            same = by_base.get(compare(parts[-1]), []) if parts else []
            scores = [_shared(parts[:-1], PurePosixPath(p).parts[:-1]) for p in same]
            if same and scores.count(max(scores)) == 1:
                chosen[name] = same[scores.index(max(scores))]
        number = Counter(chosen.values())
        new = {n: (place, words) for n, place in chosen.items() if number[place] == 1}
        matched |= new
        taken = {place for place, _ in new.values()}
        left = [name for name in left if name not in new]
        free = [place for place in free if place not in taken]
    return matched


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    """How many parts are equal from the end, those of equal spelling a little more."""
    total = 0.0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one.lower() != other.lower():
            break
        total += 1 + 0.01 * (one == other)
    return total


def explain_matches(matched: dict[str, tuple[str, str]]) -> str:
    """Say in which way names are there, with the first of each way."""
    sentences = []
    first: dict[str, str] = {}
    for name, (place, words) in matched.items():
        if not words:
            same = PurePosixPath(spell_path(name)).name == PurePosixPath(place).name
            folders = "by their base names alone, the folders before those are the exporter's"
            words = folders if same else "in another case"
        first.setdefault(words, f"{name} is {place}")
    for words, example in first.items():
        subject = "Some" if len(first) > 1 else "They"
        sentences.append(f"{subject} are there {words}: {example}.")
    return " ".join(sentences)
