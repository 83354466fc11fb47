"""Detections of overlapping tiles become those of their image: what both tiles saw decides."""

import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

# A box that ends this near to a border of its tile is taken as cut off there: pixels of the image,
# and share of the tile's side.
BORDER, BORDER_SHARE = 2.0, 0.01
# What the score of a cut object counts beside that of a whole one, and the least share of the best
# score with which a detection adds to a cut object.
CUT_COUNTS = 0.5


def merge_tiles(found: InstanceData, threshold: float) -> InstanceData:
    """Keep each object once, whole where a tile saw it whole.

    Two detections of one class and of different tiles are one object's if they overlap in the
    area that both tiles saw: by `threshold` of their union, or of the one that a border cut
    off, or of the smaller of two such. The better one is kept, with the best score of all; a
    cut one counts half, so that whole objects win. A cut one that is kept gets the union of
    boxes and masks of those that score at least half as much, so that an object that is larger
    than a tile becomes one again. What one tile finds several times is left to the detector's
    own suppression.

    SAHI's rules do not ask which tile saw what. They join an object with whatever lies in its box,
    the tile's own weak detections and the whole image's large ones too, and boxes grow.

    Args:
        found: `bboxes` (N, 4), `scores`, `labels`, `areas` (N, 4), the tile of each, and perhaps
            `masks`, run lengths; all in the image's pixels.
        threshold: Least overlap of one object's detections, 0 to 1.

    Returns:
        Those that are kept, best first.
    """
    boxes, areas = (found[key].double().cpu().numpy() for key in ("bboxes", "areas"))
    scores, labels = found.scores.double().cpu().numpy(), found.labels.cpu().numpy()
    tiles, tile_of = np.unique(areas, axis=0, return_inverse=True)
    tile_of = tile_of.reshape(-1)
    cut = _find_cut(boxes, areas, tiles)
    # Of each tile and class, what may be the same object: all in tiles that overlap it.
    near = [np.flatnonzero(_measure(_intersect(tiles, tile)) > 0) for tile in tiles]
    members: dict[tuple[int, int], NDArray[np.integer]] = {}
    for number, overlapping in enumerate(near):
        seen = np.flatnonzero(np.isin(tile_of, overlapping[overlapping != number]))
        for label in np.unique(labels[tile_of == number]):
            members[number, int(label)] = seen[labels[seen] == label]

    order = np.argsort(-scores * np.where(cut, CUT_COUNTS, 1.0), kind="stable")
    free = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    parts: list[list[int]] = []
    for row in order:
        if not free[row]:
            continue
        free[row] = False
        kept.append(int(row))
        parts.append([])
        growing = [int(row)]
        while growing:  # from part to part of what is cut; a whole object that is kept has none
            part = growing.pop()
            others = members[int(tile_of[part]), int(labels[part])]
            others = others[free[others]]
            same = others[_match(part, others, boxes, areas, cut) >= threshold]
            free[same] = False
            # A weak detection over a good part is no more of its object, whatever its size.
            joined = same[scores[same] >= CUT_COUNTS * scores[row]].tolist()
            parts[-1] += joined
            growing += joined if cut[row] else []

    merged = found[torch.tensor(kept, dtype=torch.long)]
    for place, (row, joined) in enumerate(zip(kept, parts, strict=True)):
        if not joined:
            continue
        merged.scores[place] = max(scores[row], scores[joined].max())
        if cut[row]:
            every = boxes[[row, *joined]]
            union = np.concatenate((every[:, :2].min(0), every[:, 2:].max(0)))
            merged.bboxes[place] = merged.bboxes.new_tensor(union)
            if "masks" in found:
                merged.masks[place] = coco_mask.merge([found.masks[i] for i in (row, *joined)])
    return merged[merged.scores.argsort(descending=True, stable=True)]


def _find_cut(
    boxes: NDArray[np.floating], areas: NDArray[np.floating], tiles: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Tell which boxes end at a border of their tile that is not the image's: (N,)."""
    if not len(boxes):
        return np.zeros(0, dtype=bool)
    sides = np.tile(areas[:, 2:] - areas[:, :2], 2)
    near = np.abs(boxes - areas) <= np.maximum(BORDER, BORDER_SHARE * sides)
    image = np.concatenate((tiles[:, :2].min(0), tiles[:, 2:].max(0)))
    return (near & (areas != image)).any(1)


def _match(
    row: int,
    others: NDArray[np.integer],
    boxes: NDArray[np.floating],
    areas: NDArray[np.floating],
    cut: NDArray[np.bool_],
) -> NDArray[np.floating]:
    """Return how far one detection and others agree in what both tiles saw, 0 to 1."""
    common = _intersect(areas[others], areas[row])
    own, theirs = _intersect(common, boxes[row]), _intersect(common, boxes[others])
    both = _measure(_intersect(own, theirs))
    one, other = _measure(own), _measure(theirs)
    # A part lies within its object, whatever it shows of it; two parts may each be the smaller one.
    part = np.where(cut[row], one, other)
    part = np.where(cut[others] & cut[row], np.minimum(one, other), part)
    whole = np.where(cut[others] | cut[row], part, one + other - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)


def _intersect(boxes: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the common part of boxes (N, 4) with one (4,) or with one each (N, 4)."""
    low = np.maximum(boxes[:, :2], box[..., :2])
    return np.concatenate((low, np.minimum(boxes[:, 2:], box[..., 2:])), axis=1)


def _measure(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the areas of boxes (N, 4); 0 where there is none."""
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
