"""Masks as one PNG an instance: ID/images/ID.png with ID/masks/*.png, or masks/NAME/*.png.

The first is the layout of the Data Science Bowl 2018, the second what scripts write beside a folder
of images. A mask is an image of one channel, in the size of its image, that is not 0 in the object.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from hordet.datasets.formats.image_index import Files, ImageIndex, split_of
from hordet.datasets.formats.record import (
    Account,
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
)
from hordet.datasets.formats.rings import encode_mask, find_mask_bounds

ONLY = "object"
_FOLDERS = ("masks", "instances", "instance_masks")
# 'cell_3' or 'cell-03': the class and the number of the object.
_CLASS = re.compile(r"([A-Za-z][A-Za-z ]*(?:[_-][A-Za-z]+)*)[_-]\d+")


def list_mask_groups(files: Files) -> dict[str, list[str]]:
    """Return the masks of each image, relative to the root.

    Returns:
        Masks by the path that their image would have without its suffix: `ID/images/*` for the
        first layout, `images/NAME` for the second.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    folders: dict[str, list[str]] = defaultdict(list)
    names = files.list_images()
    stems = {name.rpartition(".")[0] for name in names}
    in_folder = Counter(name.rpartition("/")[0] for name in names)
    for name in names:
        parts = PurePosixPath(name).parts
        start = "/".join(parts[:-2])
        if len(parts) >= 3 and parts[-2] in _FOLDERS and in_folder[f"{start}/images"] == 1:
            groups[f"{start}/images/*"].append(name)
        elif len(parts) >= 3 and parts[-3] in _FOLDERS:
            folders["/".join(parts[:-2])].append(name)
    for folder, those in folders.items():
        start = folder.rpartition("/")[0]
        start = f"{start}/images" if start else "images"
        keys = [f"{start}/{PurePosixPath(name).parent.name}" for name in those]
        # Else they are label maps, as masks/train/a.png beside images/train/a.jpg.
        if any(key in stems for key in keys):
            for key, name in zip(keys, those, strict=True):
                groups[key].append(name)
    return groups


def read_instance_masks(files: Files) -> AnnotatedData:
    """Read masks as one PNG an instance.

    Args:
        files: What lies below the root.
    """
    root, account = files.root, Account()
    groups = list_mask_groups(files)
    masks = {name for names in groups.values() for name in names}
    index = ImageIndex(Files(root, [name for name in files.names if name not in masks]))
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in index.names:
        by_key[name.rpartition(".")[0]].append(name)
        by_key[f"{name.rpartition('/')[0]}/*"].append(name)
    named = [_CLASS.fullmatch(PurePosixPath(name).stem) for name in masks]
    by_name = bool(named) and all(named)
    if not by_name:
        for name in sorted(masks):
            account.note(f"masks are taken for '{ONLY}': not all are named as cell_1.png", "", name)
    classes: set[str] = set()
    images: list[AnnotatedImage] = []
    for key, names in sorted(groups.items()):
        account.found += len(names)
        found = by_key.get(key, [])
        if not found:
            place, _ = index.find(PurePosixPath(key).name, names[0], ("images",), by_stem=True)
            found = [place] if place else []
        if not found:
            account.drop("their image is not there", "Put the images there.", key, len(names))
            continue
        index.used.add(found[0])
        image = index.open_image(found[0], account, split=split_of(found[0]))
        if image is None:
            account.drop("their image cannot be opened", "Fetch it again.", key, len(names))
            continue
        images.append(image)
        for name in names:
            match = _CLASS.fullmatch(PurePosixPath(name).stem) if by_name else None
            _read_mask(root, name, match[1] if match else ONLY, image, account)
        classes |= {item.label for item in image.objects}
    index.add_unannotated(images, account, "folder of masks")
    return AnnotatedData("one mask an instance", root, sorted(classes), images, account)


def _read_mask(root: Path, name: str, label: str, image: AnnotatedImage, account: Account) -> None:
    try:
        with Image.open(root / name) as opened:
            deep = opened.mode in ("1", "L", "I;16", "I")
            values = np.asarray(opened if deep else opened.convert("L"))
    except Exception:  # Pillow's formats share no type of error
        account.drop("a mask that cannot be opened", "Fetch or export it again.", name)
        return
    if values.shape != (image.height, image.width):
        account.drop("a mask of another size than its image", "Export it again.", name)
        return
    if not values.any():
        account.drop("an empty mask", "Take it out.", name)
        return
    mask = encode_mask(values)
    image.add(AnnotatedObject(label, find_mask_bounds(mask), mask=mask), account, name)
