"""Detections of overlapping patches become those of their image, by hordet's or SAHI's rules."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from packaging.version import Version
from pycocotools import mask as coco_mask

from hordet.inference.tile_merging import merge_tiles

MERGE_TYPES = ("tiles", "greedy_nmm", "nmm", "nms")
MATCH_METRICS = ("IOS", "IOU")


class DetectionMerger:
    """Merging or suppression, class by class: by what the tiles saw, or by SAHI's rules.

    'tiles' is `merge_tiles`. The others are SAHI's (Akyon et al., ICIP 2022): two detections match
    where their boxes overlap by the threshold. Suppression ('nms') keeps the better one. Merging
    ('greedy_nmm') gives it the union of both boxes and masks, so that the parts of an object that
    patches cut become one; 'nmm' also takes what matches the taken.

    Args:
        merge_type: 'tiles', 'greedy_nmm', 'nmm' or 'nms'.
        match_metric: 'IOS', the intersection over the smaller box, or 'IOU'; SAHI's alone.
        match_threshold: Least overlap of a match.

    Raises:
        ValueError: A setting is none of these, or the threshold is not above 0 and up to 1.
    """

    def __init__(self, merge_type: str, match_metric: str, match_threshold: float) -> None:
        """Check and keep the settings."""
        if merge_type not in MERGE_TYPES:
            raise ValueError(f"merge_type is {merge_type!r}; it may be {', '.join(MERGE_TYPES)}")
        if match_metric not in MATCH_METRICS:
            raise ValueError(
                f"match_metric is {match_metric!r}; it may be {', '.join(MATCH_METRICS)}"
            )
        if not 0 < match_threshold <= 1:
            raise ValueError(
                f"match_threshold is {match_threshold}; it must be above 0 and at most 1"
            )
        self.merge_type = merge_type
        self.match_metric = match_metric
        self.match_threshold = match_threshold

    def __call__(self, found: InstanceData) -> InstanceData:
        """Merge the detections of one image.

        Args:
            found: `bboxes` (N, 4), `scores`, `labels`, for 'tiles' `areas` (N, 4), the tile of
                each, and perhaps `masks`, run lengths; all in the image's pixels.

        Returns:
            Those that are kept, best first.
        """
        if self.merge_type == "tiles":
            return merge_tiles(found, self.match_threshold)
        from sahi.postprocess import combine  # with shapely: which only slicing needs

        columns = (found.bboxes, found.scores[:, None], found.labels[:, None])
        table = torch.cat(columns, dim=1).double().cpu().numpy()
        match = getattr(combine, f"batched_{self.merge_type}")
        takes_tensors = Version(version("sahi")) < Version("0.12")
        rows = torch.from_numpy(table).float() if takes_tensors else table
        groups = match(rows, self.match_metric, self.match_threshold)
        if isinstance(groups, list):
            groups = dict.fromkeys(groups, ())
        keepers = sorted(groups, key=lambda row: -table[row, 4])
        kept = found[torch.tensor(keepers, dtype=torch.long)]
        for place, keeper in enumerate(keepers):
            box, members = self._union(table[:, :4], keeper, groups[keeper])
            if members:
                kept.bboxes[place] = kept.bboxes.new_tensor(box)
            if members and "masks" in found:
                parts = [found.masks[row] for row in (keeper, *members)]
                kept.masks[place] = coco_mask.merge(parts)
        return kept

    def _union(
        self, boxes: NDArray[np.floating], keeper: int, candidates: Sequence[int]
    ) -> tuple[NDArray[np.floating], list[int]]:
        """Return the box of a keeper and of the candidates that match it as it grows, and those."""
        box, members = boxes[keeper], []
        for row in candidates:
            other = boxes[row]
            sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
            common = sides.clip(min=0).prod()
            areas = [np.prod(item[2:] - item[:2]) for item in (box, other)]
            whole = min(areas) if self.match_metric == "IOS" else sum(areas) - common
            if whole > 0 and common / whole >= self.match_threshold:
                box = np.concatenate(
                    (np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:]))
                )
                members.append(row)
        return box, members
