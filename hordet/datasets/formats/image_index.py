"""The images below a folder, and how annotation files name them; no name leads outside of it."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hordet.datasets.formats.coco import read_json, read_size, spell_path
from hordet.datasets.formats.record import Account, AnnotatedImage
from hordet.errors import DatasetError

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"),
    *(".jp2", ".jfif", ".dib", ".mpo", ".avif"),
}


class Files:
    """The names of the files below a folder, read once: network storage lists slowly.

    Hidden files and folders are passed over.

    Args:
        root: The folder.
        names: Some of its files, relative to it; by default it is read.
    """

    def __init__(self, root: Path, names: Sequence[str] | None = None) -> None:
        """See the class."""
        self.root = root
        self.names = sorted(_list_names(root) if names is None else names)

    def list_by_suffix(self, *suffixes: str) -> list[str]:
        """Return the files that end so, whatever their case, relative to the root and sorted."""
        return [name for name in self.names if PurePosixPath(name).suffix.lower() in suffixes]

    def list_images(self) -> list[str]:
        """Return the images by their suffixes, relative to the root and sorted."""
        return self.list_by_suffix(*SUFFIXES)


def _list_names(root: Path) -> list[str]:
    names = []
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(root, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders[:] = []
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        place = Path(parent).relative_to(root)
        names += [(place / name).as_posix() for name in files if not name.startswith(".")]
    return names


def read_files_of_images(
    root: Path, names: Sequence[str], key: str, account: Account
) -> Iterator[tuple[str, dict[str, Any], list[Any]]]:
    """Read JSON files of one image each; one that is no such file is left out and noted.

    Args:
        root: The folder of the data.
        names: The files, relative to the root.
        key: Under which a file has the list of its objects.
        account: Takes the number of objects, and what is left out.

    Yields:
        Name, content and objects of a file.
    """
    for name in names:
        try:
            content, _ = read_json(root / name)
        except DatasetError as error:
            words = str(error).removeprefix(f"{root / name} ")
            account.note("JSON files are left out", words, name)
            continue
        objects = content.get(key) if isinstance(content, dict) else None
        if not isinstance(objects, list):
            account.note(
                f"JSON files are left out, having no list of {key}", "Export them again.", name
            )
            continue
        account.found += len(objects)
        yield name, content, objects


class ImageIndex:
    """Finds the images that annotation files mean.

    Args:
        files: What lies below the root.
    """

    def __init__(self, files: Files) -> None:
        """See the class."""
        self.root = files.root
        self.names = files.list_images()
        self._known = {*self.names}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            path = PurePosixPath(name)
            self._by_name[path.name.lower()].append(name)
            self._by_stem[path.stem.lower()].append(name)
        self.used: set[str] = set()

    def find(
        self, stated: str, beside: str, folders: tuple[str, ...] = (), by_stem: bool = False
    ) -> tuple[str | None, str]:
        """Find the image that an annotation file means.

        Looked for where it is stated, from the file's folder and from the root; then under its base
        name in the file's folder, in `folders` near it, and anywhere below the root.

        Args:
            stated: Its path or name in the annotation file.
            beside: The annotation file, relative to the root.
            folders: Names of folders of images that lie beside the file's folder.
            by_stem: Whether an image of another suffix is meant, too.

        Returns:
            Its path relative to the root, or None, and why it was not found.
        """
        spelled = spell_path(stated.strip())
        folder = PurePosixPath(beside).parent
        for start in (folder, PurePosixPath("."), *(folder.parent / name for name in folders)):
            place = normalize(start, spelled)
            if place in self._known:
                return self._take(place)
        path = PurePosixPath(spelled)
        if not path.name:
            return None, "no image is named"
        same = self._by_name.get(path.name.lower(), [])
        if not same and by_stem:
            same = self._by_stem.get(path.stem.lower(), [])
        if not same:
            return None, "their image is not there"
        near = [(folder.parent / name).as_posix() for name in folders]
        for place in (folder.as_posix(), *near):
            inside = [name for name in same if PurePosixPath(name).parent.as_posix() == place]
            if len(inside) == 1:
                return self._take(inside[0])
        if len(same) > 1:
            wanted = path.parts
            shared = [_count_shared(wanted, PurePosixPath(name).parts) for name in same]
            if shared.count(max(shared)) > 1:
                shared = [_count_first(folder.parts, PurePosixPath(name).parts) for name in same]
            if shared.count(max(shared)) > 1:
                return None, "several images in different folders have the name of theirs"
            return self._take(same[shared.index(max(shared))])
        return self._take(same[0])

    def _take(self, name: str) -> tuple[str, str]:
        self.used.add(name)
        return name, ""

    def open_image(
        self,
        name: str,
        account: Account,
        stated: tuple[object, object] | None = None,
        split: str | None = None,
    ) -> AnnotatedImage | None:
        """Measure an image.

        Args:
            name: Its path relative to the root.
            account: Takes a note if it cannot be read, or has not the stated size.
            stated: Width and height that the annotation file gives.
            split: Of the image.

        Returns:
            The image without objects, or None if it cannot be read.
        """
        try:
            size = read_size(self.root / name)
        except Exception:  # Pillow's formats share no type of error
            account.note(
                "images cannot be opened and are left out", "Fetch or export them again.", name
            )
            return None
        given = tuple(map(read_number, stated)) if stated else None
        if given and None not in given and 0 not in given and given != size:
            if given == size[::-1]:
                cure = (
                    "Their EXIF data turn the image, or the annotation file has width and height "
                    "the wrong way round: look at some in hordet check."
                )
            else:
                cure = "Put the images there that were annotated, or annotate these."
            account.note(
                "images have another size than their annotations say; coordinates are kept",
                cure,
                f"{name}: {size[0]} x {size[1]}, not {given[0]:g} x {given[1]:g}",
            )
        return AnnotatedImage(name, *size, split=split)

    def add_unannotated(
        self, images: list[AnnotatedImage], account: Account, what: str, keep: bool = False
    ) -> None:
        """Note the images that no annotation file names.

        Args:
            images: Takes them if they are kept, as images without objects.
            account: Takes the note.
            what: The annotation files that they lack, such as 'XML file'.
            keep: Whether an image without a file is one without objects.
        """
        for name in self.names:
            if name in self.used:
                continue
            if keep:
                account.note(
                    f"images have no {what}; they count as images without objects", "", name
                )
                image = self.open_image(name, account, split=split_of(name))
                if image:
                    images.append(image)
            else:
                account.note(
                    f"images have no {what} and are left out",
                    "Annotate them; if they show no object, save an empty file for them.",
                    name,
                )


def normalize(start: PurePosixPath, stated: str) -> str | None:
    """Return a stated path from a folder, relative to the root; None if it leads out of it."""
    if PurePosixPath(stated).is_absolute() or ":" in stated[:3]:
        return None
    place = os.path.normpath((start / stated).as_posix()).replace(os.sep, "/")
    return None if place.startswith("..") else place


def split_of(name: str) -> str | None:
    """Return the split that the folders of a path name, or None: 'train', 'val' or 'test'."""
    for part in PurePosixPath(name).parent.parts:
        if split := name_split(part):
            return split
    return None


def name_split(word: str) -> str | None:
    """Return the split that a word means, such as 'valid', 'train2017' or 'instances_test'."""
    letters = "".join(c if c.isalpha() else " " for c in word.lower()).split()
    words = dict(train="train", training="train", trainset="train", val="val", valid="val")
    words |= dict(validation="val", validate="val", test="test", testing="test")
    found = {words[each] for each in letters if each in words}
    return found.pop() if len(found) == 1 else None


def read_number(value: object) -> float | None:
    """Return a finite number from what stands in an annotation file, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None


def _count_shared(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Count the parts that are equal from the end."""
    number = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one.lower() != other.lower():
            break
        number += 1
    return number


def _count_first(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Count the parts that are equal from the beginning."""
    number = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        number += 1
    return number
