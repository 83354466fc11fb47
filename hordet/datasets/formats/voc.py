"""Pascal VOC: an XML file an image in Annotations/, images in JPEGImages/, splits in ImageSets/.

Everingham et al., The Pascal Visual Object Classes Challenge 2012 Development Kit, section 5: the
top left pixel is (1, 1), and xmax, ymax are the last pixels of the object. Many tools (labelImg,
CVAT, Roboflow) write edges from 0 instead; a coordinate of 0 anywhere shows it.
"""

import xml.etree.ElementTree as tree
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from hordet.datasets.formats.image_index import (
    Files,
    ImageIndex,
    name_split,
    read_number,
    split_of,
)
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
)
from hordet.datasets.formats.rings import encode_mask, find_bounds
from hordet.datasets.formats.safe_xml import get_text, read_xml
from hordet.errors import DatasetError
from hordet.ops.files import write_whole

FOLDERS = ("JPEGImages", "images", "imgs", "img", "Images")
_VOID = 255


def read_voc(files: Files, names: Sequence[str], first: int | None = None) -> AnnotatedData:
    """Read Pascal VOC's XML files.

    Args:
        files: What lies below the root.
        names: The XML files, relative to the root.
        first: Number of the first pixel, 1 or 0; by default 0 if a box of the data has a 0.
    """
    root, account = files.root, Account()
    index = ImageIndex(files)
    splits, split_names = _read_image_sets(files, account)
    read: list[tuple[AnnotatedImage, tree.Element, str]] = []
    for name in names:
        try:
            element = read_xml(root / name)
        except DatasetError as error:
            account.note(f"XML files are left out, as each {error}", "Export them again.", name)
            continue
        objects = element.findall("object")
        account.found += len(objects)
        stem = PurePosixPath(name).stem
        stated = get_text(element, "filename") or stem
        place, why = index.find(stated, name, FOLDERS, by_stem=True)
        if place is None and PurePosixPath(stated).stem != stem:
            place, why = index.find(stem, name, FOLDERS, by_stem=True)
        if place is None:
            account.note(f"XML files are left out: {why}", "Put the images there.", name)
            account.drop(why, "Put the images there.", f"{name}: {stated}", len(objects))
            continue
        size = (get_text(element, "size/width"), get_text(element, "size/height"))
        split = splits.get(stem) or splits.get(PurePosixPath(place).stem)
        split = split or (None if splits else split_of(name) or split_of(place))
        image = index.open_image(place, account, size, split)
        if image is None:
            account.drop("their image cannot be opened", "Fetch it again.", name, len(objects))
            continue
        if splits and split is None:
            account.note(
                "images are in no list of ImageSets/Main, and count as without a split",
                "Add them to train.txt or val.txt.",
                place,
            )
        read.append((image, element, name))
    for stem in sorted({*split_names} - {PurePosixPath(name).stem for name in names}):
        account.note(
            "names in ImageSets have no XML file", "Export them, or take the names out.", stem
        )
    if first is None:
        first = _find_first(read)
        counted = "from 0, for a coordinate is 0" if first == 0 else "from 1, as VOC's own are"
        for *_, name in read:
            account.note(
                f"XML files have boxes that are read as counted {counted}",
                f"--boxes-from {1 - first} reads them otherwise.",
                name,
            )
    classes: dict[str, None] = {}
    for image, element, name in read:
        _read_objects(element, name, image, first, classes, account, files)
    images = [image for image, *_ in read]
    index.add_unannotated(images, account, "XML file")
    return AnnotatedData("Pascal VOC", root, sorted(classes), images, account)


def _read_image_sets(files: Files, account: Account) -> tuple[dict[str, str], list[str]]:
    """Return the splits of image names by the lists of ImageSets/Main, and all names."""
    splits: dict[str, str] = {}
    everything: list[str] = []
    for name in files.list_by_suffix(".txt"):
        parts = PurePosixPath(name).parts
        if "ImageSets" not in parts or PurePosixPath(name).stem not in ("train", "val", "test"):
            continue
        split = name_split(PurePosixPath(name).stem)
        text = (files.root / name).read_text(encoding="utf-8-sig", errors="replace")
        for line in filter(None, map(str.strip, text.splitlines())):
            stem = PurePosixPath(line.split()[0]).name
            stem = stem.rsplit(".", 1)[0] if stem.lower().endswith((".jpg", ".png")) else stem
            everything.append(stem)
            if split and splits.setdefault(stem, split) != split:
                account.note(
                    f"names are in two lists of ImageSets; {splits[stem]} is taken",
                    "Take them out of one.",
                    stem,
                )
    return splits, everything


def _find_first(read: Sequence[tuple[AnnotatedImage, tree.Element, str]]) -> int:
    """Return 0 if a box begins before 1."""
    for _, element, _ in read:
        for box in element.iterfind("object/bndbox"):
            for key in ("xmin", "ymin"):
                number = read_number(get_text(box, key))
                if number is not None and 0 <= number < 1:
                    return 0
    return 1


def _read_objects(
    element: tree.Element,
    name: str,
    image: AnnotatedImage,
    first: int,
    classes: dict[str, None],
    account: Account,
    files: Files,
) -> None:
    masks = _read_masks(name, image, files, account)
    for number, each in enumerate(element.findall("object"), 1):
        place = f"{name}: object {number}"
        label = get_text(each, "name")
        box = each.find("bndbox")
        found = [
            None if box is None else read_number(get_text(box, key))
            for key in ("xmin", "ymin", "xmax", "ymax")
        ]
        corners = [value for value in found if value is not None]
        polygon = _read_polygon(each)
        if not label or len(corners) < 4 and not polygon:
            account.drop("no name, or no bndbox of four numbers", "Correct them.", place)
            continue
        classes.setdefault(label)
        if len(corners) == 4:
            x1, y1, x2, y2 = corners
            # xmin and ymin are first pixels, whose left and top edges count; xmax, ymax last ones.
            x, y = x1 - first, y1 - first
            item = AnnotatedObject(label, (x, y, x2 - x, y2 - y))
        else:
            item = AnnotatedObject(label, find_bounds([polygon]))
        if polygon:
            item.outlines = [[value - first for value in polygon]]
        elif masks is not None and number < _VOID and (masks == number).any():
            item.mask = encode_mask(masks == number)
        item.is_difficult = get_text(each, "difficult") == "1"
        image.add(item, account, place)


def _read_polygon(element: tree.Element) -> list[float]:
    """Return the ring of Roboflow's <polygon>: x1, y1, x2, y2, ... ; empty if there is none."""
    polygon = element.find("polygon")
    if polygon is None:
        return []
    values = []
    for number in range(1, len(polygon) // 2 + 1):
        point = [read_number(get_text(polygon, f"{axis}{number}")) for axis in "xy"]
        values += [value for value in point if value is not None]
    return values if len(values) >= 6 and not len(values) % 2 else []


def _read_masks(
    name: str, image: AnnotatedImage, files: Files, account: Account
) -> np.ndarray | None:
    """Read SegmentationObject/NAME.png, whose values are the numbers of the objects."""
    path = PurePosixPath(name)
    place = path.parent.parent / "SegmentationObject" / f"{path.stem}.png"
    if not (files.root / place).is_file():
        return None
    try:
        with Image.open(files.root / place) as opened:
            masks = np.asarray(opened)
    except Exception:  # Pillow's formats share no type of error
        account.note("masks cannot be opened; their boxes are kept", "", place.as_posix())
        return None
    if masks.shape != (image.height, image.width):
        account.note(
            "masks are not of one channel in the size of their image; their boxes are kept",
            "Export them as PNG with a palette.",
            place.as_posix(),
        )
        return None
    return masks


def write_voc(data: AnnotatedData, out: Path, images_from: Path | None = None) -> Account:
    """Write Annotations/NAME.xml and ImageSets/Main; boxes are whole pixels from 1, as VOC's.

    Args:
        data: What to write.
        out: The folder.
        images_from: Folder that the names of the images start from; JPEGImages/ gets links then.

    Returns:
        What the files cannot hold.
    """
    from hordet.datasets.formats.yolo import link_image

    account = Account(found=data.number_of_objects)
    lists: dict[str, list[str]] = {}
    written: dict[str, str] = {}
    for image in data.images:
        stem = PurePosixPath(image.name).with_suffix("").as_posix()
        if stem in written:
            account.drop(
                "another image, alike but for its suffix, has the XML file",
                "Give each image a name of its own.",
                f"{image.name} and {written[stem]}",
                len(image.objects),
            )
            continue
        written[stem] = image.name
        root = tree.Element("annotation")
        _add_text(root, folder="JPEGImages", filename=image.name)
        size = tree.SubElement(root, "size")
        _add_text(size, width=image.width, height=image.height, depth=3)
        _add_text(root, segmented=0)
        for item in image.objects:
            if item.is_crowd:
                account.drop(
                    "crowds (iscrowd=1), for which VOC has no word", "Mark them again.", image.name
                )
                continue
            if item.outlines or item.mask:
                account.note("objects keep their box alone, as VOC's XML has", "", image.name)
            each = tree.SubElement(root, "object")
            _add_text(each, name=item.label, pose="Unspecified", truncated=0)
            _add_text(each, difficult=int(item.is_difficult))
            if item.score is not None:
                _add_text(each, score=item.score)
            x, y, width, height = item.box
            left, top = min(round(x), image.width - 1), min(round(y), image.height - 1)
            right, bottom = max(round(x + width), left + 1), max(round(y + height), top + 1)
            box = tree.SubElement(each, "bndbox")
            _add_text(box, xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
        tree.indent(root)
        write_whole(out / "Annotations" / f"{stem}.xml", tree.tostring(root, encoding="unicode"))
        lists.setdefault(image.split or "train", []).append(stem)
        if images_from:
            link_image(images_from / image.name, out / "JPEGImages" / image.name)
    for split, stems in lists.items():
        write_whole(out / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems) + "\n")
    return account


def _add_text(element: tree.Element, **texts: object) -> None:
    for key, text in texts.items():
        tree.SubElement(element, key).text = str(text)
