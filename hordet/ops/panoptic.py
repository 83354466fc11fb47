"""The parts of `panopticapi` that mmdet uses: ids in colors, and panoptic quality.

Panoptic quality is that of Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4. mmdet
matches segments (`mmdet.evaluation.functional.panoptic_utils`); here the quality is computed from
their counts. `panopticapi` is not on PyPI.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 0
"""The id of pixels that belong to no segment."""
OFFSET = 256**3
"""One more than the largest id in a color; a pair of ids is true id * OFFSET + predicted id."""


def rgb2id(color: NDArray[np.integer]) -> NDArray[np.integer] | int:
    """Read segment ids from colors: R + 256 G + 256^2 B.

    Args:
        color: (H, W, 3) image or (3,) color, RGB.

    Returns:
        (H, W) int32 ids, or one id.
    """
    ids = np.asarray(color, dtype=np.int32) @ np.array([1, 256, 256**2], dtype=np.int32)
    return ids if ids.ndim else int(ids)


def id2rgb(id_map: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Write segment ids as colors: (H, W) ids below 256^3 -> (H, W, 3) RGB."""
    ids = np.asarray(id_map)
    return np.stack([ids % 256, ids // 256 % 256, ids // 256**2 % 256], axis=-1).astype(np.uint8)


@dataclass
class PQStatCat:
    """Counts of one category.

    Attributes:
        iou: Sum of the overlaps of matched segments.
        tp: Matched segments.
        fp: Predicted segments without a match.
        fn: True segments without a match.
    """

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __iadd__(self, other: PQStatCat) -> PQStatCat:
        """Add the counts of other images."""
        self.iou += other.iou
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        return self

    def compute_quality(self) -> dict[str, float] | None:
        """Return panoptic, segmentation and recognition quality; None without segments."""
        count = self.tp + 0.5 * self.fp + 0.5 * self.fn
        if not count:
            return None
        segmentation = self.iou / self.tp if self.tp else 0.0
        return dict(pq=self.iou / count, sq=segmentation, rq=self.tp / count)


class PQStat:
    """Counts of every category, `stat[category_id]`; those of several images add up."""

    def __init__(self) -> None:
        """Start without segments."""
        self.pq_per_cat: defaultdict[int, PQStatCat] = defaultdict(PQStatCat)

    def __getitem__(self, category: int) -> PQStatCat:
        """Return the counts of a category, which may be changed."""
        return self.pq_per_cat[category]

    def __iadd__(self, other: PQStat) -> PQStat:
        """Add the counts of other images."""
        for category, counts in other.pq_per_cat.items():
            self.pq_per_cat[category] += counts
        return self

    def pq_average(
        self, categories: dict[int, dict[str, Any]], isthing: bool | None
    ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Return the mean quality of the categories that have segments, and the quality of each.

        Args:
            categories: COCO's categories by id, with `isthing`.
            isthing: True for things, False for stuff, None for all.

        Returns:
            The means `pq`, `sq`, `rq` (0 to 1; 0 without segments) and `n`, the number of
            categories with segments; and `pq`, `sq`, `rq` of each category, 0 without segments.
        """
        chosen = [
            key
            for key, category in categories.items()
            if isthing is None or isthing == bool(category["isthing"])
        ]
        found = {key: self.pq_per_cat[key].compute_quality() for key in chosen}
        present = [quality for quality in found.values() if quality is not None]
        names = ("pq", "sq", "rq")
        mean = {name: sum(q[name] for q in present) / max(len(present), 1) for name in names}
        each = {key: quality or dict.fromkeys(names, 0.0) for key, quality in found.items()}
        return {**mean, "n": len(present)}, each


def populate(module: ModuleType) -> None:
    """Fill `panopticapi`, its `utils` or its `evaluation`; each gets all names."""
    for name in ("OFFSET", "VOID", "PQStat", "PQStatCat", "id2rgb", "rgb2id"):
        setattr(module, name, globals()[name])
