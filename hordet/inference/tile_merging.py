"""Detections of overlapping tiles become those of their image."""

import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from hordet.ops.tile_groups import group_tiles


def merge_tiles(found: InstanceData, threshold: float) -> InstanceData:
    """Keep each object once; `hordet.ops.tile_groups` says which detections are one's.

    Args:
        found: `bboxes` (N, 4), `scores`, `labels`, `areas` (N, 4), the tile of each, and perhaps
            `masks`, run lengths; all in the image's pixels.
        threshold: Least overlap of one object's detections, 0 to 1.

    Returns:
        Those that are kept, best first. One that a border cut has the union of the boxes and masks
        of its parts.
    """
    boxes, scores, areas = (
        found[key].double().cpu().numpy() for key in ("bboxes", "scores", "areas")
    )
    groups = group_tiles(boxes, scores, found.labels.cpu().numpy(), areas, threshold)
    merged = found[torch.tensor([rows[0] for rows, _ in groups], dtype=torch.long)]
    for place, (rows, score) in enumerate(groups):
        merged.scores[place] = score
        if len(rows) > 1:
            parts = found.bboxes[rows]
            merged.bboxes[place] = torch.cat((parts[:, :2].amin(0), parts[:, 2:].amax(0)))
            if "masks" in found:
                merged.masks[place] = coco_mask.merge([found.masks[row] for row in rows])
    return merged
