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
# A gray photo or a depth map has more values than this.
MOST_VALUES = 100
_LOOKED_AT = 5


def find_map_end(folder: Path) -> str:
    """Return what follows an image's stem in the name of the map beside it; '' if there are none.

    `a.jpg` and `a_mask.png` give `_mask.png` (any of `MARKS`), `a.jpg` and `a.png` give `.png` if
    the PNG files hold one channel of few values, as label maps do and gray photos do not. Folders
    below are not looked into.

    Args:
        folder: Images and maps.
    """
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    maps = [file for file in files if file.suffix.lower() in MAP_SUFFIXES]
    stems = {file.stem for file in files}
    marked: Counter[str] = Counter()
    for file in maps:
        for mark in MARKS:
            end = file.stem[len(file.stem) - len(mark) :]
            if end.lower() == mark and file.stem.removesuffix(end) in stems:
                marked[end + file.suffix] += 1
    for end, number in marked.most_common(1):
        images = sum(not is_map_beside(file, end) and _is_image(file) for file in files)
        if number >= MOST * images:
            return end
    photos = {file.stem for file in files if file.suffix.lower() in PHOTO_SUFFIXES}
    twins = [file for file in maps if file.stem in photos]
    if twins and len(twins) >= MOST * len(photos):
        end = Counter(file.suffix for file in twins).most_common(1)[0][0]
        first = sorted(file for file in twins if file.suffix == end)[:_LOOKED_AT]
        return end if all(map(_has_few_values, first)) else ""
    return ""


def is_map_beside(file: Path, map_end: str) -> bool:
    """Tell whether a file is the map of an image beside it; with '' none is.

    Args:
        file: An image or a map.
        map_end: From `find_map_end`.
    """
    if not map_end or not file.name.endswith(map_end):
        return False
    stem = file.name.removesuffix(map_end)
    images = (file.with_name(stem + suffix) for suffix in (*PHOTO_SUFFIXES, *MAP_SUFFIXES))
    return any(
        image.is_file() or image.with_suffix(image.suffix.upper()).is_file()
        for image in images
        if image != file
    )


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in (*PHOTO_SUFFIXES, *MAP_SUFFIXES)


def _has_few_values(path: Path) -> bool:
    """Tell whether a file holds indices: one channel of 8 bits and few values."""
    try:
        with Image.open(path) as image:
            return image.mode in ("P", "L", "1") and image.getcolors(MOST_VALUES) is not None
    except (OSError, UnidentifiedImageError, ValueError):
        return False
