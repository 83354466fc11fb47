"""Which detections of overlapping tiles are one object's.

numpy alone is imported: `hordet export --example` writes this text into its script.
"""

import numpy as np
from numpy.typing import NDArray

# A box that ends this near to a border of its tile is taken as cut off there: pixels of the image,
# and share of the tile's side.
BORDER, BORDER_SHARE = 2.0, 0.01
# What the score of a cut object counts beside that of a whole one, and the least share of the best
# score with which a detection adds to a cut object.
CUT_COUNTS = 0.5


def group_tiles(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    areas: NDArray[np.floating],
    threshold: float,
) -> list[tuple[list[int], float]]:
    """Find each object once, whole where a tile saw it whole.

    Two detections of one class and of different tiles are one object's if they overlap in the
    area that both tiles saw: by `threshold` of their union, or of the one that a border cut
    off, or of the smaller of two such. The better one is kept, with the best score of all; a
    cut one counts half, so that whole objects win. A cut one that is kept is joined by those
    that score at least half as much, so that an object that is larger than a tile becomes one
    again. What one tile finds several times is left to the detector's own suppression.

    SAHI's rules do not ask which tile saw what. They join an object with whatever lies in its box,
    the tile's own weak detections and the whole image's large ones too, and boxes grow.

    Args:
        boxes: (N, 4) as left, top, right, bottom in the image's pixels.
        scores: (N,).
        labels: (N,).
        areas: (N, 4), the tile of each, in the image's pixels.
        threshold: Least overlap of one object's detections, 0 to 1.

    Returns:
        Of each object the rows of its detections and its score, best first. The first row is the
        one that is kept; the others are parts whose boxes and masks belong to it.
    """
    tiles, tile_of = np.unique(areas, axis=0, return_inverse=True)
    tile_of = tile_of.reshape(-1)
    cut = find_cut(boxes, areas, tiles)
    # Of each tile and class, what may be the same object: all in tiles that overlap it.
    near = [np.flatnonzero(measure(intersect(tiles, tile)) > 0) for tile in tiles]
    members: dict[tuple[int, int], NDArray[np.integer]] = {}
    for number, overlapping in enumerate(near):
        seen = np.flatnonzero(np.isin(tile_of, overlapping[overlapping != number]))
        for label in np.unique(labels[tile_of == number]):
            members[number, int(label)] = seen[labels[seen] == label]

    order = np.argsort(-scores * np.where(cut, CUT_COUNTS, 1.0), kind="stable")
    free = np.ones(len(boxes), dtype=bool)
    groups = []
    for row in order.tolist():
        if not free[row]:
            continue
        free[row] = False
        rows, growing, best = [row], [row], float(scores[row])
        while growing:  # from part to part of what is cut; a whole object that is kept has none
            part = growing.pop()
            others = members[int(tile_of[part]), int(labels[part])]
            others = others[free[others]]
            same = others[match(part, others, boxes, areas, cut) >= threshold]
            free[same] = False
            # A weak detection over a good part is no more of its object, whatever its size.
            joined = same[scores[same] >= CUT_COUNTS * scores[row]].tolist()
            best = max([best, *scores[joined].tolist()])
            if cut[row]:
                rows += joined
                growing += joined
        groups.append((rows, best))
    return sorted(groups, key=lambda group: -group[1])


def find_cut(
    boxes: NDArray[np.floating], areas: NDArray[np.floating], tiles: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Tell which boxes end at a border of their tile that is not the image's: (N,)."""
    if not len(boxes):
        return np.zeros(0, dtype=bool)
    sides = np.tile(areas[:, 2:] - areas[:, :2], 2)
    near = np.abs(boxes - areas) <= np.maximum(BORDER, BORDER_SHARE * sides)
    image = np.concatenate((tiles[:, :2].min(0), tiles[:, 2:].max(0)))
    return (near & (areas != image)).any(1)


def match(
    row: int,
    others: NDArray[np.integer],
    boxes: NDArray[np.floating],
    areas: NDArray[np.floating],
    cut: NDArray[np.bool_],
) -> NDArray[np.floating]:
    """Return how far one detection and others agree in what both tiles saw, 0 to 1."""
    common = intersect(areas[others], areas[row])
    own, theirs = intersect(common, boxes[row]), intersect(common, boxes[others])
    both = measure(intersect(own, theirs))
    one, other = measure(own), measure(theirs)
    # A part lies within its object, whatever it shows of it; two parts may each be the smaller one.
    part = np.where(cut[row], one, other)
    part = np.where(cut[others] & cut[row], np.minimum(one, other), part)
    whole = np.where(cut[others] | cut[row], part, one + other - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)


def intersect(boxes: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the common part of boxes (N, 4) with one (4,) or with one each (N, 4)."""
    low = np.maximum(boxes[:, :2], box[..., :2])
    return np.concatenate((low, np.minimum(boxes[:, 2:], box[..., 2:])), axis=1)


def measure(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the areas of boxes (N, 4); 0 where there is none."""
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
