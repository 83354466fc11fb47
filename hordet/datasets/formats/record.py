"""What every annotation format says, in one form: images, their objects, and what was left out.

A reader of a format gives an `AnnotatedData`; a writer takes one. Coordinates are pixels from the
left and the top edge of the image in double precision: a pixel at column 3 covers 3 to 4.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hordet.errors import list_first

Ring = list[float]  # x, y, x, y, ... of a closed outline

# Beyond it no image has a pixel.
FARTHEST = 1e6
BORDER = 1.0  # annotators click on the border of an image, which may come out just beyond it
TRAIN, VAL, TEST = "train", "val", "test"


@dataclass
class AnnotatedObject:
    """One object.

    Attributes:
        label: Name of its class.
        box: Left, top, width, height.
        outlines: Polygons whose union is its mask; none if only a box is known, or `mask` is set.
        holes: Polygons that are cut out of the outlines.
        mask: COCO's compressed run lengths (size and counts as str), where a mask came as pixels.
        is_crowd: Whether it stands for many objects that nobody told apart (COCO's iscrowd).
        is_difficult: Pascal VOC's mark of objects that are hard to recognize.
        score: Confidence of a prediction, 0 to 1.
    """

    label: str
    box: tuple[float, float, float, float]
    outlines: list[Ring] = field(default_factory=list)
    holes: list[Ring] = field(default_factory=list)
    mask: dict[str, Any] | None = None
    is_crowd: bool = False
    is_difficult: bool = False
    score: float | None = None


@dataclass
class AnnotatedImage:
    """One image.

    Attributes:
        name: Path of its file relative to the root, with slashes.
        width: In pixels, as it is loaded (turned as its EXIF data say).
        height: In pixels.
        objects: Its objects.
        split: 'train', 'val', 'test', or None where nothing says it.
    """

    name: str
    width: int
    height: int
    objects: list[AnnotatedObject] = field(default_factory=list)
    split: str | None = None

    def add(self, item: AnnotatedObject, account: "Account", place: str) -> None:
        """Take an object, with its box cut at the border of the image.

        Args:
            item: The object.
            account: Takes the object if it has no area or lies outside.
            place: Where it stands, for people.
        """
        x, y, width, height = item.box
        numbers = [*item.box, *(v for ring in (*item.outlines, *item.holes) for v in ring)]
        if not all(abs(number) < FARTHEST for number in numbers):  # NaN is not below anything
            account.drop("coordinates that are no numbers of pixels", "Export them again.", place)
            return
        if width <= 0 or height <= 0 or any(len(ring) < 6 for ring in item.outlines):
            account.drop(
                "no area: a box without width or height, or fewer than three points",
                "Draw them again or take them out.",
                place,
            )
            return
        left, top = max(x, 0.0), max(y, 0.0)
        right, bottom = min(x + width, self.width), min(y + height, self.height)
        if right <= left or bottom <= top:
            account.drop(
                "they lie outside of their image", "Check that it is the image annotated.", place
            )
            return
        if max(left - x, top - y, x + width - right, y + height - bottom) > 1e-6 * self.width:
            account.note(
                "objects reach over the border of their image; their boxes are cut there", "", place
            )
            item.box = (left, top, right - left, bottom - top)
        if any(self._measure_beyond(ring) > BORDER for ring in item.outlines):
            account.note(
                "objects have an outline that reaches over the border of their image; it is kept",
                "Check that it is the image annotated.",
                place,
            )
        self.objects.append(item)

    def _measure_beyond(self, ring: list[float]) -> float:
        """How far an outline reaches over the border, pixels."""
        across, down = ring[::2], ring[1::2]
        lowest, highest = (min(across), min(down)), (max(across), max(down))
        return max(-lowest[0], -lowest[1], highest[0] - self.width, highest[1] - self.height)


@dataclass
class Account:
    """Counts what a reader or writer found, and keeps what it left out with the reasons.

    Attributes:
        found: Objects that the files hold.
        dropped: Places of objects that were left out, by reason and cure.
        merged: Objects that are parts of another one, such as LabelMe's of one group_id.
        noted: Places of what was changed or passed over otherwise, by sentence and cure.
    """

    found: int = 0
    dropped: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    merged: int = 0
    noted: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def drop(self, what: str, cure: str, place: str, number: int = 1) -> None:
        """Note that objects were left out.

        Args:
            what: What is the matter with them, behind 'objects dropped:'.
            cure: A sentence on what the user can do.
            place: Where they stand.
            number: How many there are at this place.
        """
        self.dropped.setdefault((what, cure), []).extend([place] * number)

    def note(self, what: str, cure: str, place: str) -> None:
        """Note that something other than an object is not as it should be; see `drop`.

        Args:
            what: A sentence without its end, whose subject is their number: 'images have ...'.
            cure: A sentence on what the user can do; may be empty.
            place: Where it stands.
        """
        self.noted.setdefault((what, cure), []).append(place)

    @property
    def number_dropped(self) -> int:
        """Number of objects that were left out."""
        return sum(map(len, self.dropped.values()))

    def describe(self) -> Iterator[str]:
        """Yield a sentence for each reason, those of dropped objects first."""
        for (what, cure), places in self.dropped.items():
            shown = list_first([*dict.fromkeys(places)])
            yield f"{len(places)} objects dropped: {what} ({shown}). {cure}".rstrip()
        for (what, cure), places in self.noted.items():
            shown = list_first([*dict.fromkeys(places)])
            yield f"{len(places)} {what} ({shown}). {cure}".rstrip()


@dataclass
class AnnotatedData:
    """All images of a data set.

    Attributes:
        layout: Name of the format, for people.
        root: Folder that the names of the images start from.
        classes: Names of the classes in their order.
        images: The images.
        account: What was found and what was left out.
        class_ids: COCO's category ids of the classes, if the source has them.
    """

    layout: str
    root: Path
    classes: list[str]
    images: list[AnnotatedImage]
    account: Account
    class_ids: list[int] | None = None

    @property
    def number_of_objects(self) -> int:
        """Number of objects that are kept."""
        return sum(len(image.objects) for image in self.images)

    def list_splits(self) -> dict[str | None, list[AnnotatedImage]]:
        """Return the images by split, in the order train, val, test, none."""
        order: Sequence[str | None] = (TRAIN, VAL, TEST, None)
        groups = {split: [i for i in self.images if i.split == split] for split in order}
        return {split: images for split, images in groups.items() if images}

    def summarize(self) -> list[str]:
        """Return lines to print: what was read, objects in and out, and why some were dropped."""
        images = ", ".join(
            f"{len(group):,} {split or 'without a split'}"
            for split, group in self.list_splits().items()
        )
        kinds = Counter(_name_kind(o) for image in self.images for o in image.objects)
        shown = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))
        account = self.account
        merged = f", {account.merged:,} parts joined to others" if account.merged else ""
        return [
            f"{self.layout}: {len(self.images):,} images ({images or 'none'}), "
            f"{len(self.classes)} classes: {list_first(self.classes, 12)}",
            f"objects: {account.found:,} in, {self.number_of_objects:,} out ({shown or 'none'})"
            f"{merged}, {account.number_dropped:,} dropped",
            *account.describe(),
        ]


def _name_kind(item: AnnotatedObject) -> str:
    if item.holes:
        return "polygons with holes"
    if item.outlines:
        return "polygons"
    return "masks" if item.mask else "boxes"
