"""Images of shapes, drawn from a random generator, for `hordet.datasets.shapes.files`.

Nothing here knows of files or label formats. An image is a textured, noisy background with a few
textured shapes that overlap; beside it stands a map of which object each pixel shows.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


def _make_arc(radius: float, start: float = 0, stop: float = 360, points: int = 48) -> np.ndarray:
    """Return points of a circle around the origin, from `start` to `stop` degrees, (points, 2)."""
    angles = np.radians(np.linspace(start, stop, points, endpoint=False))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _make_box(half_width: float, half_height: float) -> np.ndarray:
    """Return a rectangle around the origin, (4, 2)."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([half_width, half_height])


def _make_star() -> np.ndarray:
    """Return a star of five points, (10, 2)."""
    return _make_arc(1, points=10) * np.where(np.arange(10) % 2, 0.45, 1)[:, None]


def _make_cross() -> np.ndarray:
    """Return a cross of four equal arms, (12, 2)."""
    arm = np.array([[0.94, -0.32], [0.94, 0.32], [0.32, 0.32]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])


def _make_crescent() -> np.ndarray:
    """Return a moon: an outer arc and, backwards, an inner one between the same horns, (64, 2)."""
    outer = _make_arc(1, 45, 315, points=40)
    inner = _make_arc(0.715, 278.6, 81.4, points=24) + np.array([0.6, 0])
    return np.concatenate([outer, inner])


OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_make_arc(0.9)],
    "square": [_make_box(0.75, 0.75)],
    "triangle": [_make_arc(1, points=3)],
    "star": [_make_star()],
    "ring": [_make_arc(0.95), _make_arc(0.5)],
    "cross": [_make_cross()],
    "crescent": [_make_crescent()],
    "bar": [_make_box(1, 0.24)],
}
"""Name -> closed polylines, each (n, 2), in the unit circle, filled by the even-odd rule."""

# Radius over the shorter side of the image, and how often: small, medium, large.
SIZES = ((0.07, 0.10), (0.10, 0.17), (0.17, 0.27))
SIZE_ODDS = (0.15, 0.45, 0.4)
# Largest turn, radians: a few hundred images are too few to learn every turn of every shape.
MAX_TURN = 0.35
# Hue hints at the class; shade and texture are free. Backgrounds are grayish, TINT around gray.
HUE_SPREAD = 0.06
TINT = 25.0
# Thin shapes need a few pixels across to be one at all.
MIN_RADIUS = 6.0
# A share of the objects is close to its background in color; distances are Euclidean over RGB.
LOW_CONTRAST_ODDS = 0.1
LOW_CONTRAST, CONTRAST = (30.0, 60.0), (70.0, 400.0)
# An object that would leave less than this of another one (or of itself) in sight is drawn anew.
MIN_VISIBLE = 0.55
MIN_VISIBLE_PIXELS = 30


@dataclass
class Drawing:
    """An image and what it shows.

    Attributes:
        image: RGB image, (height, width, 3), uint8.
        objects: Which object each pixel shows, (height, width), uint8: 0 = background, k + 1 =
            object k.
        labels: The class index of each object, in drawing order (later ones lie on top).
    """

    image: np.ndarray
    objects: np.ndarray
    labels: list[int]


def draw(
    rng: np.random.Generator,
    size: tuple[int, int],
    num_classes: int,
    num_objects: int,
    odds: Sequence[float] | None = None,
) -> Drawing:
    """Draw one image.

    Class i is drawn as shape i modulo the number of shapes. While there is a shape for each class
    its hue only hints at it; with more classes than that, the hue tells apart those that share a
    shape.

    Args:
        rng: Source of every choice; the same state gives the same image.
        size: Height and width in pixels.
        num_classes: Number of classes to draw from.
        num_objects: Number of objects to try for; a crowded image may end up with fewer.
        odds: How probable each class is, with a sum of 1; None: all alike.

    Returns:
        The image, its map of objects and their classes.
    """
    canvas = _draw_background(rng, size)
    objects = np.zeros(size, np.uint8)
    full_areas: list[int] = []
    labels: list[int] = []
    for _ in range(8 * num_objects):
        if len(labels) == num_objects:
            break
        drawn = rng.integers(num_classes) if odds is None else rng.choice(num_classes, p=odds)
        label = int(drawn)
        alpha, full_area = _place_outline(rng, label, size)
        mask = alpha > 0.5
        trial = np.where(mask, len(labels) + 1, objects).astype(np.uint8)
        visible = np.bincount(trial.ravel(), minlength=len(labels) + 2)[1:]
        areas = np.array([*full_areas, full_area])
        if (visible < MIN_VISIBLE * areas).any() or visible.min() < MIN_VISIBLE_PIXELS:
            continue
        color = _choose_color(rng, canvas[mask].mean(axis=0), label, num_classes)
        fill = _draw_texture(rng, color, size)
        canvas += alpha[..., None] * (fill - canvas)
        objects = trial
        full_areas.append(full_area)
        labels.append(label)
    canvas += rng.normal(0, rng.uniform(2, 8), canvas.shape)
    return Drawing(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), objects, labels)


def _place_outline(
    rng: np.random.Generator, label: int, size: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """Put a shape at a random place, of random size, turn and stretch.

    Returns:
        Its anti-aliased cover, (height, width), in [0, 1], and its area in pixels as though the
        image had no border.
    """
    height, width = size
    low, high = SIZES[rng.choice(len(SIZES), p=SIZE_ODDS)]
    radius = max(MIN_RADIUS, min(size) * rng.uniform(low, high))
    angle = rng.uniform(-MAX_TURN, MAX_TURN)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretch = np.array([1, rng.uniform(0.8, 1)])
    center = rng.uniform(0.1, 0.9, 2) * np.array([width, height])
    outlines = list(OUTLINES.values())[label % len(OUTLINES)]
    placed = [radius * (outline * stretch) @ turn + center for outline in outlines]
    # Four bits below the pixel: cv2's fixed-point coordinates.
    cover = np.zeros(size, np.uint8)
    points = [np.rint(16 * outline).astype(np.int32) for outline in placed]
    cv2.fillPoly(cover, points, 255, lineType=cv2.LINE_AA, shift=4)
    areas = [cv2.contourArea(outline.astype(np.float32)) for outline in placed]
    return cover.astype(np.float32) / 255, int(areas[0] - sum(areas[1:]))


def _choose_color(
    rng: np.random.Generator, behind: np.ndarray, label: int, num_classes: int
) -> np.ndarray:
    """Choose a color, (3,), as far from the mean color `behind` the object as its contrast asks."""
    nearest, farthest = LOW_CONTRAST if rng.random() < LOW_CONTRAST_ODDS else CONTRAST
    best, best_miss = behind, np.inf
    for _ in range(20):
        if num_classes > len(OUTLINES):
            # The golden angle spreads the hues of any number of classes.
            hue = (0.618034 * (label // len(OUTLINES)) + rng.uniform(-0.02, 0.02)) % 1
            saturation = rng.uniform(0.7, 1)
        else:
            hue = (label / num_classes + rng.uniform(-HUE_SPREAD, HUE_SPREAD)) % 1
            saturation = rng.uniform(0.45, 1)
        color = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.25, 1)))
        distance = float(np.linalg.norm(color - behind))
        miss = max(nearest - distance, distance - farthest, 0)
        if miss < best_miss:
            best, best_miss = color, miss
        if miss == 0:
            break
    return best


def _draw_background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Mix two colors by smooth noise, with a texture over them, (height, width, 3), float32."""
    first, second = rng.uniform(40, 215, (2, 1)) + rng.uniform(-TINT, TINT, (2, 3))
    second = first + 0.5 * (second - first)
    blend = _draw_noise(rng, size, cells=int(rng.integers(2, 7)))[..., None]
    mixed = first + blend * (second - first)
    return (mixed + _draw_texture(rng, np.zeros(3), size)).astype(np.float32)


def _draw_texture(rng: np.random.Generator, color: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw a color with a slope of light and one of: nothing, stripes, dots, blotches, grain.

    Returns:
        (height, width, 3), float32, not clipped.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 12)
    across = rows * np.sin(angle) + columns * np.cos(angle)
    along = rows * np.cos(angle) - columns * np.sin(angle)
    light = rng.uniform(-30, 30) * (across / max(size))
    kind = rng.choice(["plain", "stripes", "dots", "blotches", "grain"])
    if kind == "stripes":
        pattern = np.sin(2 * np.pi * across / period)
    elif kind == "dots":
        pattern = np.sin(2 * np.pi * across / period) * np.sin(2 * np.pi * along / period)
    elif kind == "blotches":
        pattern = 2 * _draw_noise(rng, size, cells=max(4, min(size) // 8)) - 1
    elif kind == "grain":
        pattern = rng.normal(0, 0.6, size)
    else:
        pattern = np.zeros(size)
    strength = rng.uniform(4, 16)
    return (color + (light + strength * pattern)[..., None]).astype(np.float32)


def _draw_noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Draw noise of about `cells` blotches along each side, (height, width), in [0, 1]."""
    grid = rng.random((cells, cells)).astype(np.float32)
    return np.clip(cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
