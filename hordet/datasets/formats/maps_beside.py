"""Label maps that lie beside their images, in one folder."""

from collections import Counter
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# What tools write behind an image's name for its map.
MARKS = ("_mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", "_annotation")
MAP_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".webp")
# Share of the images that must have a map; below it, the folder holds something else.
MOST = 0.5
_LOOKED_AT = 5


def find_map_end(folder: Path) -> str:
    """Return what follows an image's stem in the name of the map beside it; '' if there are none.

    `a.jpg` and `a_mask.png` give `_mask.png` (any of `MARKS`), `a.jpg` and `a.png` give `.png` if
    the PNG files hold one channel, as label maps do. Folders below are not looked into.

    Args:
        folder: Images and maps.
    """
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    stems = {file.stem for file in files}
    marked: Counter[str] = Counter()
    for file in files:
        for mark in MARKS:
            if file.suffix.lower() in MAP_SUFFIXES and file.stem.removesuffix(mark) in stems:
                marked[mark + file.suffix] += file.stem.endswith(mark)
    photos = {file.stem for file in files if file.suffix.lower() in PHOTO_SUFFIXES}
    twins = [f for f in files if f.suffix.lower() in MAP_SUFFIXES and f.stem in photos]
    for end, number in marked.most_common(1):
        images = sum(not is_map_beside(file, end) and _is_image(file) for file in files)
        if number and number >= MOST * images:
            return end
    if len(twins) >= MOST * max(len(photos), 1) and twins:
        end = Counter(file.suffix for file in twins).most_common(1)[0][0]
        first = sorted(file for file in twins if file.suffix == end)[:_LOOKED_AT]
        return end if all(map(_has_one_channel, first)) else ""
    return ""


def is_map_beside(file: Path, map_end: str) -> bool:
    """Tell whether a file is the map of an image beside it; with '' none is."""
    return bool(map_end) and file.name.endswith(map_end)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in (*PHOTO_SUFFIXES, *MAP_SUFFIXES)


def _has_one_channel(path: Path) -> bool:
    """Tell whether a file holds indices or gray values; without decoding its pixels."""
    try:
        with Image.open(path) as image:
            return image.mode in ("P", "L", "1", "I", "I;16")
    except (OSError, UnidentifiedImageError, ValueError):
        return False
