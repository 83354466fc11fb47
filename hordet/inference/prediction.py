"""What a model says of one image: objects, or a class for every pixel."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hordet.errors import ConfigError, did_you_mean
from hordet.evaluation.coco_results import ImageResult
from hordet.visualization.panels import Panel, find_outlines

NO_CLASS = 255
SHOWN = 4  # classes named in a line about an image


@dataclass(frozen=True)
class Instances:
    """The N objects found in an image of H x W pixels, best first as the model gives them.

    Attributes:
        boxes: Left, top, right, bottom in pixels of the image, float32 (N, 4).
        scores: Confidences, 0 to 1, float32 (N,).
        labels: Indices into `classes`, int64 (N,).
        masks: N run-length encodings of COCO, dict(size=[H, W], counts=bytes); None for a detector
            of boxes. `bitmaps` decodes them.
        size: (H, W).
        classes: Names of all classes of the model.
        mask_scores: Confidences of the masks (N,) where the model has others for them.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: list[dict[str, Any]] | None
    size: tuple[int, int]
    classes: tuple[str, ...]
    mask_scores: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """Return the class of each object."""
        return [self.classes[label] for label in self.labels]

    def bitmaps(self) -> NDArray[np.bool_]:
        """Return the masks as an array (N, H, W), empty without masks."""
        if not self.masks:
            return np.zeros((0, *self.size), dtype=bool)
        return coco_mask.decode(self.masks).transpose(2, 0, 1).astype(bool)

    def select(
        self, score_threshold: float = 0.0, classes: Iterable[str] | None = None
    ) -> "Instances":
        """Return the objects of at least this score, and of these classes if any are named.

        Raises:
            ConfigError: The model has no such class.
        """
        kept = self.scores >= score_threshold
        if classes is not None:
            kept &= np.isin(self.labels, find_class_indices(classes, self.classes))
        (places,) = np.nonzero(kept)
        return replace(
            self,
            boxes=self.boxes[places],
            scores=self.scores[places],
            labels=self.labels[places],
            masks=None if self.masks is None else [self.masks[i] for i in places],
            mask_scores=None if self.mask_scores is None else self.mask_scores[places],
        )

    def shares(self) -> NDArray[np.float64]:
        """Return the share of the image that each class's masks cover together, 0 to 1, (K,).

        Pixels of several objects of a class count once. Without masks all are 0.
        """
        shares = np.zeros(len(self.classes))
        for label in np.unique(self.labels) if self.masks else ():
            own = [
                mask for mask, of in zip(self.masks or (), self.labels, strict=True) if of == label
            ]
            shares[label] = coco_mask.area(coco_mask.merge(own)) / (self.size[0] * self.size[1])
        return shares

    def describe(self) -> str:
        """Return how many objects of which class there are, such as `3 car, 1 person`."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return _list_amounts(counts, self.classes, lambda count: f"{count}") or "nothing found"

    def panel(self) -> Panel:
        """Return what `hordet.visualization` draws."""
        outlines = [find_outlines(coco_mask.decode(mask)) for mask in self.masks or ()]
        return Panel("", self.boxes, self.labels, self.scores, outlines)

    def coco_result(self, image_id: int, category_ids: Sequence[int]) -> ImageResult:
        """Return what `hordet.evaluation` scores and writes.

        Args:
            image_id: Of the image in the annotation file.
            category_ids: Of each class.
        """
        boxes = self.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return ImageResult(
            image_id,
            self.size,
            boxes,
            self.scores,
            np.asarray(category_ids)[self.labels],
            None if self.masks is None else [mask["counts"] for mask in self.masks],
            self.mask_scores,
        )


@dataclass(frozen=True)
class ClassMap:
    """The class of every pixel of an image of H x W pixels.

    Attributes:
        labels: Indices into `classes`, uint8 (H, W); 255 is no class.
        classes: Names of all classes of the model.
    """

    labels: NDArray[np.uint8]
    classes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W)."""
        return self.labels.shape

    def select(self, classes: Iterable[str]) -> "ClassMap":
        """Return the map of these classes alone, 255 elsewhere.

        Raises:
            ConfigError: The model has no such class.
        """
        kept = np.isin(self.labels, find_class_indices(classes, self.classes))
        return replace(self, labels=np.where(kept, self.labels, np.uint8(NO_CLASS)))

    def shares(self) -> NDArray[np.float64]:
        """Return the share of the image that each class covers, 0 to 1, (K,)."""
        counts = np.bincount(self.labels.ravel(), minlength=NO_CLASS + 1)
        return counts[: len(self.classes)] / self.labels.size

    def describe(self) -> str:
        """Return the classes of the most pixels, such as `Road 34%, Sky 12%`."""
        line = _list_amounts(self.shares(), self.classes, lambda share: f"{share:.0%}", first=False)
        return line or "none of the classes"

    def panel(self) -> Panel:
        """Return what `hordet.visualization` draws."""
        return Panel("", semantic=self.labels)


Prediction = Instances | ClassMap


def find_class_indices(names: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Return the indices of class names.

    Raises:
        ConfigError: A name is no class.
    """
    names = list(names)
    for name in names:
        if name not in classes:
            known = ", ".join(classes[:8]) + (f" ... ({len(classes)})" if len(classes) > 8 else "")
            raise ConfigError(f"class {name!r} is none of {known}{did_you_mean(name, classes)}")
    return [classes.index(name) for name in names]


def _list_amounts(values: Any, classes: Sequence[str], write: Any, first: bool = True) -> str:
    """Name the classes of the largest values, the value before or behind the name."""
    order = [i for i in np.argsort(-values, kind="stable") if values[i] > 0]
    words = [(write(values[i]), classes[i])[:: 1 if first else -1] for i in order[:SHOWN]]
    line = ", ".join(" ".join(pair) for pair in words)
    return f"{line}, {len(order) - SHOWN} more classes" if len(order) > SHOWN else line
