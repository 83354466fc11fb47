"""What to do about an annotation file whose images lie elsewhere: found by their base names."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from hordet.datasets.formats.coco import CocoFile, find_missing_files, read_json, spell_path
from hordet.datasets.plain_copies import write_copy
from hordet.errors import DatasetError, FileWriteError, list_first

_FETCH = "Fetch them, or correct data_prefix (img) or the data root."
# Of files below a root; network storage lists some thousands a second.
MOST_FILES = 500_000
# The share of the images that must be missing: single ones are missing, not in another place.
SYSTEMATIC = 0.5


def propose_names(file: CocoFile, folder: Path, root: Path) -> str:
    """Say how to set the paths of images right, from what lies below the data root.

    Args:
        file: The annotation file; each image has `file_name`, some of the files are missing.
        folder: Where they were looked for.
        root: The data root.
    """
    images = file.images
    missing = {*find_missing_files(folder, [image["file_name"] for image in images])}
    names = [i["file_name"] for i in images if os.path.join(folder, i["file_name"]) in missing]
    if len(names) < SYSTEMATIC * len(images):
        return _FETCH
    files = _list_files(root)
    if len(names) == len(images) and (folders := _common_folders(names, files)):
        if len(folders) == 1:
            return (
                f"All of them lie in {root / folders[0]}: set data_prefix=dict(img={folders[0]!r}) "
                "of the data set."
            )
        return (
            f"Files of these names lie in {list_first(folders)}: set data_prefix=dict(img=...) to "
            "the one of the images."
        )
    inside = os.path.relpath(folder, root).replace(os.sep, "/")
    matched = {name: place for name in names if (place := _find(name, files, inside))}
    if len(matched) < len(names):
        if len(matched) < SYSTEMATIC * len(names):
            return _FETCH
        return f"{_FETCH} {len(matched)} of these {len(names)} are there by their base names."
    reason = _explain(names[0], matched)
    try:
        copy = _write_corrected(file.path, matched, folder, root)
    except (DatasetError, FileWriteError):
        return f"{reason} Correct file_name in a copy of the file."
    return (
        f"{reason} A copy of the annotations with the names that are there lies in {copy}: look at "
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


def _common_folders(names: list[str], files: dict[str, list[str]]) -> list[str]:
    """The folders below which every name is found as it is written."""
    common: set[str] | None = None
    for name in names:
        places = files.get(PurePosixPath(name).name.lower(), [])
        holding = {p[: -len(name)].rstrip("/") for p in places if f"/{p}".endswith(f"/{name}")}
        common = holding if common is None else common & holding
        if not common:
            return []
    return sorted(common or ())


def _find(name: str, files: dict[str, list[str]], inside: str) -> str | None:
    """The one file that a name means: of equal base name, and most equal folders above it.

    Files in the folder of the images come first: label maps often have the names of images.
    """
    parts = PurePosixPath(spell_path(name)).parts
    places = files.get(parts[-1].lower(), []) if parts else []
    places = [place for place in places if place.startswith(f"{inside}/")] or places
    scores = [_shared(parts, PurePosixPath(place).parts) for place in places]
    best = max(scores, default=0)
    return places[scores.index(best)] if scores.count(best) == 1 else None


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    """How many parts are equal from the end, those of equal spelling a little more."""
    total = 0.0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one.lower() != other.lower():
            break
        total += 1 + 0.01 * (one == other)
    return total


def _explain(name: str, matched: dict[str, str]) -> str:
    place, plain = matched[name], spell_path(name)
    if PurePosixPath(plain).name != PurePosixPath(place).name:
        return f"They are there in another case: {name} is {place}."
    what = "are there by their base names alone"
    return f"They {what}, the folders before those are the exporter's: {name} is {place}."


def _write_corrected(path: Path, matched: dict[str, str], folder: Path, root: Path) -> Path:
    content, _ = read_json(path)
    for image in content["images"]:
        name = image.get("file_name")
        place = matched.get(name) or matched.get(spell_path(str(name)))
        if place:
            image["file_name"] = Path(os.path.relpath(root / place, folder)).as_posix()
    return write_copy(path, content, "paths")
