"""Outlines of objects: of circles and pixels, several joined into one and parted again, with holes.

A ring is a flat list x, y, x, y, ... of a closed outline, in pixels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

# An outline of straight lines is at most this far from its circle, in pixels.
_SAGITTA = 0.05
Ring = list[float]
Box = tuple[float, float, float, float]


def outline_ellipse(
    x: float, y: float, radius_x: float, radius_y: float, angle: float = 0.0
) -> Ring:
    """Return a ring around an ellipse, at most 0.05 pixels from it.

    Args:
        x: Center, in pixels.
        y: Center, in pixels.
        radius_x: Radius along its first axis.
        radius_y: Radius along its second axis.
        angle: By which the axes are turned clockwise in the image, in radians.
    """
    largest = max(radius_x, radius_y, 1.0)
    number = min(720, max(12, math.ceil(math.pi / math.acos(1 - _SAGITTA / largest))))
    steps = np.arange(number) * (2 * math.pi / number)
    along, across = radius_x * np.cos(steps), radius_y * np.sin(steps)
    cosine, sine = math.cos(angle), math.sin(angle)
    points = np.stack([x + cosine * along - sine * across, y + sine * along + cosine * across], 1)
    return points.ravel().tolist()


def outline_box(box: Sequence[float], angle: float = 0.0) -> Ring:
    """Return the corners of a box (left, top, width, height), turned around its center.

    Args:
        box: In pixels.
        angle: Clockwise in the image, in radians.
    """
    x, y, width, height = box
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    if not angle:
        return corners
    points = np.array(corners).reshape(4, 2) - [x + width / 2, y + height / 2]
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = points @ np.array([[cosine, sine], [-sine, cosine]])
    return (turned + [x + width / 2, y + height / 2]).ravel().tolist()


def find_bounds(rings: Sequence[Ring]) -> Box:
    """Return left, top, width and height of what holds all rings."""
    xs = [x for ring in rings for x in ring[0::2]]
    ys = [y for ring in rings for y in ring[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def measure_area(ring: Ring) -> float:
    """Return the area of a ring by the shoelace formula: positive if it runs clockwise."""
    points = np.asarray(ring, float).reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    return float((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum() / 2)


def join_rings(rings: Sequence[Ring]) -> Ring:
    """Join rings into one by bridges, lines that are passed forth and back and enclose nothing.

    It is how YOLO's files, which have one ring an object, hold objects of several parts or with
    holes. `part_rings` undoes it.
    """
    joined = np.asarray(rings[0], float).reshape(-1, 2)
    for ring in rings[1:]:
        other = np.asarray(ring, float).reshape(-1, 2)
        near = [((joined - point) ** 2).sum(1) for point in other]
        distances = [float(each.min()) for each in near]
        there = int(np.argmin(distances))
        here = int(near[there].argmin())
        turned = np.roll(other, -there, axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return joined.ravel().tolist()


def part_rings(ring: Ring) -> tuple[list[Ring], list[Ring]]:
    """Part a ring at its bridges.

    Returns:
        The outlines, and the holes: rings within an odd number of others.
    """
    parts = _cut_bridges(list(zip(ring[0::2], ring[1::2], strict=True)))
    rings = [[value for point in part for value in point] for part in parts]
    if len(rings) == 1:
        return rings, []
    depths = [sum(_is_within(a, b) for b in rings if b is not a) for a in rings]
    outlines = [each for each, depth in zip(rings, depths, strict=True) if not depth % 2]
    holes = [each for each, depth in zip(rings, depths, strict=True) if depth % 2]
    return outlines, holes


def _cut_bridges(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Cut a closed list of points at the first line that is passed forth and back, and so on."""
    done, waiting = [], [points]
    while waiting:
        points = waiting.pop()
        pair = _find_bridge(points)
        if pair is None:
            done.append(points)
            continue
        first, last = pair
        waiting.append(points[first + 1 : last])
        waiting.append(points[: first + 1] + points[last + 2 :])
    return done


def _find_bridge(points: list[tuple[float, float]]) -> tuple[int, int] | None:
    """Find lines i and j, i before j, of which j is i backwards, with a ring between and outside.

    Only these are bridges; a spike, which is passed forth and back, encloses nothing.
    """
    seen: dict[Any, int] = {}
    size = len(points)
    for j in range(size):
        start, end = points[j], points[(j + 1) % size]
        i = seen.get((end, start))
        if i is not None:
            inner, outer = points[i + 1 : j], points[: i + 1] + points[j + 2 :]
            if len(inner) >= 3 and len(outer) >= 3:
                return i, j
        seen.setdefault((start, end), j)
    return None


def _is_within(ring: Ring, other: Ring) -> bool:
    """Tell whether most middles of a ring's lines lie within another ring."""
    x, y, width, height = find_bounds([ring])
    left, top, wide, high = find_bounds([other])
    if x < left or y < top or x + width > left + wide or y + height > top + high:
        return False
    points = np.asarray(ring, float).reshape(-1, 2)
    middles = (points + np.roll(points, -1, axis=0)) / 2
    corners = np.asarray(other, float).reshape(-1, 2)
    ends = np.roll(corners, -1, axis=0)
    (x1, y1), (x2, y2) = corners.T, ends.T
    inside = 0
    for px, py in middles:
        crossing = (y1 > py) != (y2 > py)
        with np.errstate(divide="ignore", invalid="ignore"):
            where = x1 + (py - y1) * (x2 - x1) / (y2 - y1)
        inside += int((crossing & (px < where)).sum() % 2)
    return 2 * inside > len(middles)


def trace_mask(mask: NDArray[Any]) -> tuple[list[Ring], list[Ring]]:
    """Trace the edges of a mask's pixels.

    Args:
        mask: (H, W), nonzero within the object.

    Returns:
        Outlines and holes whose corners are those of pixels: rasterized they give the same mask.
    """
    inside = np.pad(np.asarray(mask) != 0, 1)
    core = inside[1:-1, 1:-1]
    ends: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Lines around each pixel clockwise, with the object on their right.
    sides = (
        (inside[:-2, 1:-1], (0, 0), (1, 0)),  # above it is nothing
        (inside[1:-1, 2:], (1, 0), (1, 1)),  # to the right
        (inside[2:, 1:-1], (1, 1), (0, 1)),  # below
        (inside[1:-1, :-2], (0, 1), (0, 0)),  # to the left
    )
    for neighbor, (x1, y1), (x2, y2) in sides:
        rows, columns = np.nonzero(core & ~neighbor)
        for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
            ends.setdefault((column + x1, row + y1), []).append((column + x2, row + y2))
    outlines: list[Ring] = []
    holes: list[Ring] = []
    while ends:
        start = next(iter(ends))
        ring = _follow(ends, start)
        (outlines if measure_area(ring) > 0 else holes).append(ring)
    return outlines, holes


def _follow(ends: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> Ring:
    """Follow lines from a point until it is reached again, taking them out; corners alone stay."""
    here, ring = start, []
    direction = (0, 0)
    first = None
    while True:
        choices = ends[here]
        right = (here[0] - direction[1], here[1] + direction[0])
        after = right if len(choices) > 1 and right in choices else choices[0]
        choices.remove(after)
        if not choices:
            del ends[here]
        step = (after[0] - here[0], after[1] - here[1])
        if step != direction:
            ring += [float(here[0]), float(here[1])]
        direction = step
        first = first or step
        here = after
        if here == start and (start not in ends or _closes(ends[start], here, direction)):
            break
    if first == direction:  # the ring began within a line
        ring = ring[2:]
    return ring


def _closes(choices: list[tuple[int, int]], here: tuple[int, int], direction: tuple) -> bool:
    """Tell whether a ring ends where two pixels touch at a corner: no line turns right there."""
    return (here[0] - direction[1], here[1] + direction[0]) not in choices


def draw_rings(
    outlines: Sequence[Ring], holes: Sequence[Ring], size: tuple[int, int]
) -> dict[str, Any]:
    """Rasterize outlines and cut out the holes.

    Args:
        outlines: Polygons.
        holes: Polygons.
        size: Height and width of the image.

    Returns:
        COCO's compressed run lengths, counts as str.
    """
    runs = coco_mask.merge(coco_mask.frPyObjects(list(outlines), *size))
    if holes:
        cut = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(list(holes), *size)))
        runs = coco_mask.encode(np.asfortranarray(coco_mask.decode(runs) & (1 - cut)))
    return dict(size=list(size), counts=runs["counts"].decode())


def encode_mask(mask: NDArray[Any]) -> dict[str, Any]:
    """Return COCO's compressed run lengths, counts as str, of a mask (H, W)."""
    runs = coco_mask.encode(np.asfortranarray(np.asarray(mask) != 0, np.uint8))
    return dict(size=list(mask.shape), counts=runs["counts"].decode())


def find_mask_bounds(mask: dict[str, Any]) -> Box:
    """Return left, top, width and height of COCO's compressed run lengths."""
    x, y, width, height = (float(value) for value in coco_mask.toBbox(mask))
    return x, y, width, height
