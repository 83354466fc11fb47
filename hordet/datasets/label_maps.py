"""The one reader of semantic label maps: whole numbers, checked before any cast."""

from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hordet.errors import DatasetError, list_first

LABEL_COLORS = "labelmap.txt"
COLOR_TABLE = "class_dict.csv"  # name, r, g, b; of CamVid and DeepGlobe on Kaggle
LARGEST = 65535  # of 16 bits
# Folders above a map in which the file of its colors is looked for, as in ROOT/masks/train/a/b.png.
_LEVELS = 4


def decode_label_map(content: bytes, path: str | Path) -> NDArray[np.int64]:
    """Decode a label map.

    Args:
        content: Of the file.
        path: The file, above which `labelmap.txt` is looked for if it has colors.

    Returns:
        Its values (H, W), each as it is written: 0 to 65535.

    Raises:
        DatasetError: It cannot be decoded, has colors that no `labelmap.txt` names, or values that
            are no whole numbers from 0. The message begins with a verb: its subject is the map.
    """
    try:
        # Pillow keeps the indices of a PNG with a palette, where OpenCV turns them to colors.
        image = Image.open(BytesIO(content))
        values = np.array(image)
    except Exception as error:  # Pillow's formats share no type of error
        reason = "it is no image" if isinstance(error, UnidentifiedImageError) else error
        raise DatasetError(
            f"cannot be decoded: {reason}. It must be a whole PNG of one channel: fetch or export "
            "it again."
        ) from error
    if values.ndim == 3:
        return _read_colors(values, Path(path))
    if image.format == "JPEG":
        raise DatasetError(
            "is a JPEG, whose compression changes class indices at every border. Export it as PNG."
        )
    if values.dtype.kind == "f":
        _require_whole(values)
    low = values.min(initial=0)
    if low < 0:
        wrong = np.unique(values[values < 0])
        raise DatasetError(
            f"holds {list_values(wrong)}, below 0. Write 255 where there is no class."
        )
    if values.max(initial=0) > LARGEST:
        wrong = np.unique(values[values > LARGEST])
        raise DatasetError(
            f"holds {list_values(wrong)}, above {LARGEST}. Write 255 where there is no class."
        )
    return values.astype(np.int64)


def _require_whole(values: NDArray) -> None:
    unset = int((~np.isfinite(values)).sum())
    if unset:
        raise DatasetError(
            f"holds NaN or infinity in {unset:,} of {values.size:,} pixels. Write 255 where there "
            "is no class, and export whole numbers (PNG of 8 or 16 bits)."
        )
    parts = np.unique(values[values != np.rint(values)])
    if len(parts):
        raise DatasetError(
            f"holds {list_values(parts)}, which {'are' if len(parts) > 1 else 'is'} no whole "
            "number: classes were mixed, as by resizing with interpolation. Make it again with "
            "nearest neighbor."
        )


def _read_colors(values: NDArray, path: Path) -> NDArray[np.int64]:
    """Turn colors to the places of their lines in `labelmap.txt`."""
    channels = values.shape[-1]
    file = _find_label_colors(path)
    if file is None or channels < 3:
        raise DatasetError(
            f"has {channels} channels. It must have one, holding class indices: export indices, "
            f"not colors, or put {LABEL_COLORS} of CVAT (a line 'name:red,green,blue::' for each "
            "class, in the order of the indices) into the root of the data."
        )
    colors = read_label_colors(file)
    codes = {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(colors.values())}
    wide = values[..., :3].astype(np.int64)
    code = (wide[..., 0] << 16) + (wide[..., 1] << 8) + wide[..., 2]
    found, places = np.unique(code, return_inverse=True)
    unknown = [
        (int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in found if int(c) not in codes
    ]
    if unknown:
        raise DatasetError(
            f"holds {len(unknown)} colors that {file} does not name, such as (red, green, blue) "
            f"{list_first(unknown, 3)}. Name them there, or export the map without smoothing or "
            "JPEG."
        )
    lookup = np.array([codes[c] for c in found.tolist()], np.int64)
    return lookup[places].reshape(code.shape)


def _find_label_colors(path: Path) -> Path | None:
    for folder in list(path.absolute().parents)[:_LEVELS]:
        for name in (LABEL_COLORS, COLOR_TABLE):
            if (folder / name).is_file():
                return folder / name
    return None


def read_label_colors(file: Path) -> dict[str, tuple[int, int, int]]:
    """Read CVAT's and Datumaro's `labelmap.txt`, or a table `class_dict.csv`.

    Args:
        file: Lines `name:red,green,blue:parts:actions`; those with `#` are comments. Of a table,
            lines `name,red,green,blue` below a line of titles.

    Returns:
        The red, green and blue (0 to 255) of each name, in the order of the class indices.

    Raises:
        DatasetError: A line has no color, or two have the same; the message begins with a verb.
    """
    return dict(_read_label_colors(file, file.stat().st_mtime_ns))


@lru_cache(maxsize=16)
def _read_label_colors(file: Path, changed: int) -> dict[str, tuple[int, int, int]]:
    """Read the file once for all maps, and again when it has changed."""
    colors: dict[str, tuple[int, int, int]] = {}
    table = file.suffix == ".csv"
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines()):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if table:
            name, *values = (cell.strip() for cell in line.split(","))
            if not number and not "".join(values).isdigit():
                continue  # titles
            rest = ",".join(values)
        else:
            name, _, rest = line.strip().partition(":")
        try:
            red, green, blue = (int(part) for part in rest.partition(":")[0].split(","))
        except ValueError as error:
            raise DatasetError(
                f"has colors, and {file} names none in the line {line.strip()!r}. Write "
                f"{'name,red,green,blue' if table else 'name:red,green,blue::'!r}."
            ) from error
        if (red, green, blue) in colors.values():
            raise DatasetError(
                f"has colors, and {file} gives {red},{green},{blue} to two classes. Give each its "
                "own."
            )
        colors[name] = (red, green, blue)
    return colors


def list_values(values: NDArray) -> str:
    """Return 'value 7' or 'values 7, 8, ...' for up to eight of the values."""
    # Every digit of a float: 1.0000001 is no class.
    shown = ", ".join(str(value).removesuffix(".0") for value in values[:8])
    return f"value{'s' if len(values) > 1 else ''} {shown}{', ...' if len(values) > 8 else ''}"
