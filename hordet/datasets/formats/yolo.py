"""YOLO's text files: one an image, a line an object: boxes or polygons as shares of the image.

https://docs.ultralytics.com/datasets/detect and /segment: `class x y width height` with the center
of the box, or `class x1 y1 x2 y2 ...`; behind either a confidence may stand. `data.yaml` names the
classes and the images of train, val and test. The file of `images/a/b.jpg` is `labels/a/b.txt`, or
lies beside the image (Darknet). An object of several parts or with holes is one ring with bridges.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hordet.datasets.formats.coco import find_repeated
from hordet.datasets.formats.image_index import (
    Files,
    ImageIndex,
    normalize,
    split_of,
)
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    Ring,
)
from hordet.datasets.formats.rings import (
    find_bounds,
    join_rings,
    part_rings,
    trace_mask,
)
from hordet.errors import DatasetError, list_first
from hordet.ops.files import write_whole

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
# Farther from 0..1 than rounding and a hand at the border lead; Ultralytics allows as much.
_SLACK = 0.01
_MOST_CLASSES = 10_000  # where none are named
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def find_settings(files: Files) -> list[str]:
    """Return the YAML files with names of classes, relative to the root."""
    found = []
    for name in files.list_by_suffix(".yaml", ".yml"):
        if name.count("/") <= 1 and isinstance(_read_settings(files.root / name), dict):
            found.append(name)
    return found


def _read_settings(path: Path) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return content if isinstance(content, dict) and "names" in content else None


def list_label_files(files: Files) -> list[str]:
    """Return the text files that can be labels: in a folder `labels`, or named as an image."""
    images = {name.rpartition(".")[0] for name in files.list_images()}
    return [
        name
        for name in files.list_by_suffix(".txt")
        if PurePosixPath(name).name not in NAME_FILES
        and ("labels" in PurePosixPath(name).parent.parts or name.removesuffix(".txt") in images)
    ]


def looks_like_labels(path: Path) -> bool:
    """Tell whether the first line of a file is one of YOLO's."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            words = file.readline(100_000).split()
        values = [float(word) for word in words]
    except (OSError, ValueError):
        return False
    return len(values) >= 5 and values[0].is_integer()


def read_yolo(files: Files) -> AnnotatedData:
    """Read a data set of YOLO.

    Args:
        files: What lies below its root.

    Raises:
        DatasetError: Lists of classes disagree, or what `data.yaml` names is not there.
    """
    root, account = files.root, Account()
    index = ImageIndex(files)
    settings_names = find_settings(files)
    settings = [_read_settings(root / name) or {} for name in settings_names]
    classes = _read_classes(files, settings_names, settings, account)
    if settings and "kpt_shape" in settings[0]:
        account.note(
            "data set has key points (kpt_shape); their boxes are read alone", "", settings_names[0]
        )
    boxes_alone = bool(settings and "kpt_shape" in settings[0])
    listed = _list_images(index, settings_names[0], settings[0], account) if settings else None
    if listed is None:
        listed = [(name, split_of(name)) for name in index.names]
    labels = {*list_label_files(files)}
    used: dict[str, str] = {}
    images: list[AnnotatedImage] = []
    labeled_names: list[str] = []
    for name, split in listed:
        index.used.add(name)
        image = index.open_image(name, account, split=split)
        label = next((place for place in _label_places(name) if place in labels), None)
        if label:
            if used.setdefault(label, name) != name:
                account.note(
                    "images share a label file, being alike but for their suffix; each has its "
                    "objects",
                    "Give each image a name of its own.",
                    f"{used[label]} and {name}",
                )
            if image is None:
                number = len(_read_lines(root / label, label, account))
                account.found += number
                account.drop("their image cannot be opened", "Fetch it again.", label, number)
                continue
            _read_labels(root / label, label, image, classes, account, boxes_alone)
        elif image is not None:
            account.note(
                "images have no label file; they count as images without objects", "", name
            )
        if image is not None:
            images.append(image)
            labeled_names.append(name)
    for name in find_repeated(labeled_names):
        account.note(
            "images are in several splits, so that metrics are too high",
            "Split the data anew.",
            name,
        )
    unlisted = [name for name in index.names if name not in index.used]
    owned = {place for name in unlisted for place in _label_places(name)}
    for label in sorted(labels - {*used}):
        number = len(_read_lines(root / label, label, account))
        account.found += number
        if label in owned:
            what = "data.yaml does not list their images"
            cure = "Add their folder to train, val or test."
        else:
            what, cure = "their label files have no image", "Put the images there."
        account.drop(what, cure, label, number)
        if not number:
            account.note(f"empty label files: {what}", cure, label)
    for name in unlisted:
        account.note(
            "images are in no split of data.yaml and are left out",
            "Add their folder to train, val or test.",
            name,
        )
    if not classes:
        largest = max((int(item.label) for image in images for item in image.objects), default=-1)
        classes += [f"class_{number}" for number in range(largest + 1)]
        account.note(
            f"data set has no file of class names; the {len(classes)} are named by their numbers",
            "Write data.yaml with names, or classes.txt with a name on each line.",
            str(root),
        )
        for image in images:
            for item in image.objects:
                item.label = classes[int(item.label)]
    return AnnotatedData("YOLO", root, classes, images, account)


def _read_classes(
    files: Files, names: list[str], settings: list[dict[str, Any]], account: Account
) -> list[str]:
    """Return the names of the classes; all files that give some must agree."""
    lists = {
        name: _read_names(files.root / name, content, account)
        for name, content in zip(names, settings, strict=True)
    }
    for name in files.names:
        if PurePosixPath(name).name in NAME_FILES:
            text = (files.root / name).read_text(encoding="utf-8-sig", errors="replace")
            lists[name] = [line.strip() for line in text.splitlines() if line.strip()]
    lists = {name: classes for name, classes in lists.items() if classes}
    if not lists:
        return []
    first, classes = next(iter(lists.items()))
    for other, theirs in lists.items():
        if theirs != classes:
            raise DatasetError(
                f"{files.root / first} names the classes {list_first(classes)} ({len(classes)}), "
                f"and {files.root / other} {list_first(theirs)} ({len(theirs)}). Make the lists "
                "alike, or take the wrong one out: the numbers of the label files mean one of them."
            )
    return [*classes]


def _read_names(path: Path, content: dict[str, Any], account: Account) -> list[str]:
    names = content["names"]
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise DatasetError(
                f"{path} numbers its classes {list_first(list(names))}: name each number from 0 "
                f"to {len(names) - 1}."
            )
        names = [names.get(number, names.get(str(number))) for number in range(len(names))]
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(isinstance(n, str | int | float) for n in names):
        raise DatasetError(f"{path}: names must be a list of names, or number: name.")
    names = [str(name) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(
            f"{path} gives one name to several classes: {list_first(twice)}. Give each its own."
        )
    number = content.get("nc")
    if isinstance(number, int) and number != len(names):
        account.note(
            f"files have nc: {number} and {len(names)} names of classes; the names are taken",
            "Correct nc.",
            path.name,
        )
    return names


def _list_images(
    index: ImageIndex, name: str, settings: dict[str, Any], account: Account
) -> list[tuple[str, str | None]] | None:
    """Return the images that `data.yaml` lists with their splits; None if it lists none."""
    stated: dict[str, list[str]] = {}
    for key in _SPLITS:
        values = settings.get(key)
        # Text alone: what YAML nests by references may be larger than any memory when written out.
        texts = [
            v for v in (values if isinstance(values, list) else [values]) if isinstance(v, str)
        ]
        if texts:
            stated[key] = texts
    if not stated:
        return None
    listed: list[tuple[str, str | None]] = []
    path = settings.get("path")
    base = path if isinstance(path, str) else ""
    for key, values in stated.items():
        for value in values:
            place = _find_place(index, PurePosixPath(name).parent, base, value)
            if place is None:
                account.note(
                    f"entries of data.yaml's {key} lead to nothing below {index.root}",
                    "Correct it, or take it out.",
                    value,
                )
                continue
            for image in _list_place(index, place, account):
                listed.append((image, _SPLITS[key]))
    if not listed:
        raise DatasetError(
            f"{index.root / name} lists no image that is there: "
            + "; ".join(f"{key}: {list_first(values)}" for key, values in stated.items())
            + f". Write the folders of the images as they lie below {index.root}."
        )
    return [*dict.fromkeys(listed)]


def _find_place(
    index: ImageIndex, folder: PurePosixPath, base: str, value: str
) -> PurePosixPath | None:
    """Find a folder or list below the root; exporters write '../' too much, or their own disk."""
    value, base = value.replace("\\", "/"), base.replace("\\", "/")
    parts = [part for part in PurePosixPath(value).parts if part not in ("/", "..", ".")]
    stated = [normalize(folder / base, value) if not base.startswith("/") else None]
    stated += [normalize(folder, value), normalize(PurePosixPath("."), value)]
    # The ends of the path: '../train/images' of Roboflow, '/content/data/images/train' of Colab.
    stated += ["/".join(parts[start:]) for start in range(len(parts))]
    for place in stated:
        if place is not None and (index.root / place).exists() and (place != "." or value == "."):
            return PurePosixPath(place)
    return None


def _list_place(index: ImageIndex, place: PurePosixPath, account: Account) -> Iterator[str]:
    if (index.root / place).is_dir():
        start = "" if place.as_posix() == "." else f"{place.as_posix()}/"
        yield from (name for name in index.names if name.startswith(start))
        return
    text = (index.root / place).read_text(encoding="utf-8-sig", errors="replace")
    for line in filter(None, map(str.strip, text.splitlines())):
        name, why = index.find(line, place.as_posix())
        if name is None:
            account.note(f"lines of {place} lead to no image ({why})", "Correct them.", line)
        else:
            yield name


def _label_places(name: str) -> list[str]:
    """Return where the label file of an image can lie: the last `images` as `labels`, beside it."""
    path = PurePosixPath(name).with_suffix(".txt")
    parts = list(path.parts)
    places = []
    for i in reversed(range(len(parts) - 1)):
        if parts[i] in ("images", "imgs", "img", "JPEGImages"):
            places.append("/".join([*parts[:i], "labels", *parts[i + 1 :]]))
    # Images in the root, labels in a folder; or labels/train beside train.
    places.append("/".join([*parts[:-1], "labels", parts[-1]]))
    places.append("/".join(["labels", *parts]))
    return [*dict.fromkeys([*places, path.as_posix()])]


def _read_lines(path: Path, name: str, account: Account) -> list[tuple[int, str]]:
    """Return the lines of a label file that are not blank, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        account.note("label files cannot be read as text", "Export them again.", name)
        return []
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _read_labels(
    path: Path,
    name: str,
    image: AnnotatedImage,
    classes: list[str],
    account: Account,
    boxes_alone: bool,
) -> None:
    lines = _read_lines(path, name, account)
    seen: set[str] = set()
    for number, line in lines:
        place = f"{name}:{number}"
        account.found += 1
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if boxes_alone:
            values = values[:5]
        if len(values) < 5 or not values[0].is_integer():
            account.drop(
                "the line is not 'class x y width height' or 'class x1 y1 x2 y2 x3 y3 ...'",
                "Correct or export it again.",
                place,
            )
            continue
        if " ".join(line.split()) in seen:
            account.drop("the line stands twice in its file", "", place)
            continue
        seen.add(" ".join(line.split()))
        score = None
        if len(values) == 6 or len(values) > 7 and not len(values) % 2:
            score = values.pop()
        label = int(values[0])
        most = len(classes) or _MOST_CLASSES
        if not 0 <= label < most:
            account.drop(
                f"a class number outside of 0 to {most - 1}",
                "Name the class in data.yaml, or correct the number.",
                place,
            )
            continue
        shares = values[1:]
        if not all(-_SLACK <= share <= 1 + _SLACK for share in shares):
            account.drop(
                "coordinates outside of 0 to 1",
                "YOLO has shares of the image's sides: divide x and width by the image's width, y "
                "and height by its height.",
                place,
            )
            continue
        if any(not 0 <= share <= 1 for share in shares):
            account.note(
                "objects have coordinates a little outside of 0 to 1, cut there", "", place
            )
            shares = [min(max(share, 0.0), 1.0) for share in shares]
        item = _make_object(classes[label] if classes else str(label), shares, image)
        item.score = score
        image.add(item, account, place)


def _make_object(label: str, shares: list[float], image: AnnotatedImage) -> AnnotatedObject:
    sides = (image.width, image.height)
    if len(shares) == 4:
        x, y, width, height = (share * sides[i % 2] for i, share in enumerate(shares))
        return AnnotatedObject(label, (x - width / 2, y - height / 2, width, height))
    # Parted before the shares become pixels: a bridge's ends are equal as they are written.
    rings = part_rings(shares)
    outlines, holes = (
        [[share * sides[i % 2] for i, share in enumerate(ring)] for ring in part] for part in rings
    )
    return AnnotatedObject(label, find_bounds(outlines), outlines, holes)


def write_yolo(data: AnnotatedData, out: Path, images_from: Path | None = None) -> Account:
    """Write labels, links to the images and `data.yaml`.

    Args:
        data: What to write; all or no objects of it should have masks.
        out: Folder: gets labels/SPLIT/NAME.txt, images/SPLIT/NAME (links), data.yaml.
        images_from: Folder that the names of the images start from; none are linked without.

    Returns:
        What the files cannot hold.
    """
    account = Account(found=data.number_of_objects)
    numbers = {name: number for number, name in enumerate(data.classes)}
    with_mask = any(o.outlines or o.mask for image in data.images for o in image.objects)
    settings: dict[str, Any] = {"path": str(out.resolve())}
    written: dict[str, str] = {}
    for image in data.images:
        split = image.split or "train"
        label = PurePosixPath("labels", split, image.name).with_suffix(".txt").as_posix()
        if label in written:
            account.drop(
                "another image, alike but for its suffix, has the label file",
                "Give each image a name of its own.",
                f"{image.name} and {written[label]}",
                len(image.objects),
            )
            continue
        written[label] = image.name
        lines = []
        for item in image.objects:
            if item.is_crowd:
                account.drop(
                    "crowds (iscrowd=1), for which YOLO has no word", "Outline them.", image.name
                )
                continue
            values = _list_shares(item, image, account)
            if with_mask and len(values) == 4:
                account.note(
                    "objects have no mask where others have; YOLO's segmentation leaves them out",
                    "Outline them.",
                    image.name,
                )
            if item.score is not None:
                values.append(item.score)
            lines.append(" ".join([str(numbers[item.label]), *map(_spell, values)]) + "\n")
        write_whole(out / label, "".join(lines))
        if images_from:
            link_image(images_from / image.name, out / "images" / split / image.name)
        settings.setdefault(split, f"images/{split}")
    if "val" not in settings and "train" in settings:
        account.note(
            "data set has no val split, which YOLO wants", "Add val to data.yaml.", str(out)
        )
    settings["names"] = dict(enumerate(data.classes))
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_whole(out / "data.yaml", text)
    return account


def link_image(source: Path, link: Path) -> None:
    """Make a link to an image: its data are not copied."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    if link.exists():  # an image of the user's own
        return
    link.symlink_to(os.path.relpath(source.resolve(), link.parent.resolve()))


def _list_shares(item: AnnotatedObject, image: AnnotatedImage, account: Account) -> list[float]:
    """Return the numbers of a line: of a box, or of one ring."""
    outlines, holes = item.outlines, item.holes
    if item.mask:
        outlines, holes = trace_run_lengths(item.mask)
    sides = (image.width, image.height)
    if not outlines:
        x, y, width, height = item.box
        values = [x + width / 2, y + height / 2, width, height]
    else:
        values = join_rings([*outlines, *holes])
    shares = [value / sides[i % 2] for i, value in enumerate(values)]
    if any(not 0 <= share <= 1 for share in shares):
        account.note(
            "outlines reach over the border of their image, and are cut there", "", image.name
        )
        shares = [min(max(share, 0.0), 1.0) for share in shares]
    return shares


def trace_run_lengths(mask: dict[str, Any]) -> tuple[list[Ring], list[Ring]]:
    """Return outlines and holes of COCO's run lengths."""
    from pycocotools import mask as coco_mask

    return trace_mask(coco_mask.decode(mask))


def _spell(value: float) -> str:
    """Write a number in full precision, without an exponent."""
    return f"{value:.17f}".rstrip("0").rstrip(".") if abs(value) < 1e-4 else repr(float(value))
