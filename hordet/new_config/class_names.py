"""Names of the classes of label maps, and whether 0 means no class."""

import csv
import json
from pathlib import Path

from hordet.datasets.label_maps import COLOR_TABLE, LABEL_COLORS, read_label_colors
from hordet.datasets.transforms import IGNORED
from hordet.errors import DatasetError, list_first

TABLE = "_classes.csv"  # Roboflow's, in the folder of each split
_NAME_FILES = (
    LABEL_COLORS,
    COLOR_TABLE,
    f"*/{TABLE}",
    "objectInfo*.txt",
    "classes.txt",
    "labels.txt",
    "class_names.txt",
    "meta.json",
)


def read_class_names(root: Path, file: Path | None) -> tuple[list[str] | None, Path | None]:
    """Read the names of the classes from a file.

    The file has one name on each line, or is a table with a column Name, JSON with a list
    `classes`, CVAT's `labelmap.txt`, or `class_dict.csv`.

    Args:
        root: Folder of the data, in which usual file names are looked for.
        file: The file; None to look for one.

    Returns:
        The names and the file; None and None if there is no such file.

    Raises:
        DatasetError: The given file holds no names, or a file is not UTF-8 text.
    """
    files = [file] if file else [path for glob in _NAME_FILES for path in sorted(root.glob(glob))]
    for path in files:
        if path.name in (LABEL_COLORS, COLOR_TABLE):
            return list(read_label_colors(path)), path
        if path.name == TABLE:
            return _read_table(path), path
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else None
        except ValueError as error:
            raise DatasetError(f"{path} cannot be read as UTF-8 text: {error}.") from error
        if content is not None:
            names = content.get("classes") if isinstance(content, dict) else content
        else:
            rows = [line.split("\t") for line in text.splitlines() if line.strip()]
            header = [cell.strip().lower() for cell in rows[0]] if rows else []
            names = [row[-1].strip() for row in rows[int("name" in header) :]]
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return names, path
        if file:
            raise DatasetError(f"{path} holds no class names: write one name on each line.")
    return None, None


def _read_table(path: Path) -> list[str]:
    """Return the names of a table with the columns pixel value and class, by the values 0, 1, ...

    Raises:
        DatasetError: It is no such table, or a value has no name.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row][1:]
        names = {int(value): name for value, name in rows}
    except ValueError as error:  # UnicodeDecodeError is one
        raise DatasetError(
            f"{path} cannot be read as a table with the columns Pixel Value, Class ({error}). "
            "Export it again, or name a file with one class on each line by --classes."
        ) from error
    lacking = [value for value in range(len(names)) if value not in names]
    if lacking or not names:
        raise DatasetError(
            f"{path} names the values {list_first(sorted(names))}, and not {list_first(lacking)}. "
            "Name each value from 0 to the largest."
        )
    return [names[value] for value in sorted(names)]


def name_classes(
    root: Path, names: list[str] | None, found: set[int], reduce_zero_label: bool
) -> tuple[tuple[str, ...], bool]:
    """Return the names of the classes, and whether 0 means no class.

    Args:
        root: Folder of the data, for messages.
        names: Names from a file, if there is one.
        found: Values of the label maps.
        reduce_zero_label: Whether the user says that 0 means no class.

    Raises:
        DatasetError: The maps hold fewer than two classes, or values without a name.
    """
    values = sorted(found - {IGNORED})
    if len(values) < 2:
        raise DatasetError(
            f"The label maps of {root} hold the values {list_first(sorted(found))}; "
            f"{IGNORED} means no class, so fewer than two classes remain. Number the classes 0, 1, "
            "2, ... (for masks of 0 and 255: write 1 in place of 255)."
        )
    last = values[-1]
    if names is None:
        first = int(reduce_zero_label)
        return tuple(f"class_{label}" for label in range(first, last + 1)), reduce_zero_label
    # If there are as many names as the largest value, classes count from 1; 0 is "other".
    reduce_zero_label = reduce_zero_label or last == len(names)
    if last >= len(names) + reduce_zero_label:
        wrong = [value for value in values if value >= len(names)]
        raise DatasetError(
            f"The names of classes are {len(names)}, but label maps of {root} hold the values "
            f"{list_first(wrong)}. Name every class, or write {IGNORED} in pixels of no class."
        )
    return tuple(names), reduce_zero_label
