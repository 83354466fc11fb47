"""Draws predictions over images: sheets of truth beside prediction, and overlays."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path as MplPath
from numpy.typing import NDArray

from hordet.visualization.fonts import explain_numbers, name_classes, plain_text, spell
from hordet.visualization.panels import Color, Pair, Panel, make_color

PANEL_INCHES = 3.6
DOTS_PER_INCH = 110
LABELS_AT_MOST = 20  # labeled objects of a panel; more labels would hide the image
LEGEND_AT_MOST = 30  # classes in a legend, largest area first
# Overlays: inches of the long side and of a legend entry; smallest and largest long side, pixels.
OVERLAY_INCHES, LEGEND_INCHES = 6.0, 1.5
SMALLEST_OVERLAY, LARGEST_OVERLAY = 800, 4000
BORDERS_PER_SIDE = 500  # borders of a class map are about that part of the long side to each side


def draw_sheet(
    pairs: Sequence[Pair], classes: Sequence[str], colors: Sequence[Color], title: str
) -> Figure:
    """Draw truth beside prediction, two images in a row, with a legend for class maps.

    Names are written as they are; classes that no installed font can write have their numbers, and
    a line below the title says so.

    Args:
        pairs: Truth and prediction of each image.
        classes: Names of the classes.
        colors: Colors of the classes.
        title: Title of the sheet.
    """
    columns = min(len(pairs), 2)
    rows = -(-len(pairs) // columns)
    images = [mmcv.imread(pair.image_path, channel_order="rgb") for pair in pairs]
    # All panels have the height of the median image, within limits.
    ratio = float(np.clip(np.median([i.shape[0] / i.shape[1] for i in images]), 0.4, 1.6))
    drawn = [panel for pair in pairs for panel in (pair.truth, pair.prediction)]
    legend = _make_legend(drawn, classes, colors)
    legend_rows = -(-len(legend) // (3 * columns))
    width = 2 * columns * PANEL_INCHES
    panel_height = PANEL_INCHES * ratio + 0.4
    height = rows * panel_height + 0.4 + 0.22 * legend_rows
    # A Figure without pyplot has no global state and no window.
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    if len(classes) > 1 and explain_numbers(classes):
        note = "classes by number from 0: no font here has the characters of their names"
        title = f"{title}\n{note}".strip()
    figure.suptitle(title, fontsize=12, **plain_text(title))
    axes = figure.subplots(rows, 2 * columns, squeeze=False)
    for spare in axes.flat:
        spare.set_axis_off()
    for k, (pair, image) in enumerate(zip(pairs, images, strict=True)):
        left = axes[k // columns][2 * (k % columns) :]
        panels = (pair.truth, pair.prediction)
        for axis, panel, name in zip(left, panels, (Path(pair.image_path).name, ""), strict=False):
            draw_panel(axis, image, panel, classes, colors)
            heading = f"{spell(name)}   {panel.caption}".strip()
            axis.set_title(heading, fontsize=8, loc="left", **plain_text(heading))
    if legend:
        _add_legend(figure, legend, loc="outside lower center", ncols=3 * columns)
    return figure


def draw_panel(
    axis: Axes,
    image: NDArray[np.uint8],
    panel: Panel,
    classes: Sequence[str],
    colors: Sequence[Color],
    filled: bool = True,
) -> None:
    """Draw one image (H, W, 3) RGB with its objects or class map.

    Args:
        axis: Where to draw.
        image: RGB, (H, W, 3).
        panel: What to draw over it.
        classes: Names of the classes.
        colors: Colors of the classes.
        filled: Fill masks and classes; else their outlines alone are drawn.
    """
    if panel.semantic is not None:
        table = np.array([*colors, (1, 1, 1)])
        painted = panel.semantic < len(colors)
        overlay = (
            (255 * table).round().astype(np.uint8)[np.where(painted, panel.semantic, len(colors))]
        )
        blended = cv2.addWeighted(image, 0.4, overlay, 0.6, 0) if filled else overlay
        if not filled:
            painted &= _find_borders(panel.semantic)
        image = np.where(painted[..., None], blended, image)
    names = name_classes(classes)
    axis.imshow(image)
    axis.autoscale(False)  # boxes that reach beyond the image do not shrink it
    for i, (box, label) in enumerate(zip(panel.boxes, panel.labels, strict=True)):
        # With a single class, each object has its own color.
        color = colors[label] if len(classes) > 1 else make_color(i)
        if i < len(panel.outlines):
            rings = [np.vstack([part, part[:1]]) for part in panel.outlines[i] if len(part) > 2]
            shape = MplPath.make_compound_path(*(MplPath(ring, closed=True) for ring in rings))
            face = (*color, 0.35) if filled else "none"
            axis.add_patch(PathPatch(shape, fc=face, ec=(*color, 1.0), lw=1.0))
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        axis.add_patch(Rectangle((left, top), *size, fill=False, ec=color, lw=0.8))
        words = [names[label]] if len(classes) > 1 else []
        words += [f"{panel.scores[i]:.2f}"] if panel.scores is not None else []
        if words and len(panel.boxes) <= LABELS_AT_MOST:
            axis.text(
                left,
                top,
                " ".join(words),
                fontsize=6,
                va="bottom" if top > 0.05 * image.shape[0] else "top",
                color="black" if np.dot(color, (0.3, 0.59, 0.11)) > 0.5 else "white",
                bbox=dict(fc=color, ec="none", pad=0.6, alpha=0.85),
                clip_on=True,
                **plain_text(*words),
            )


def draw_overlay(
    image: NDArray[np.uint8],
    panel: Panel,
    classes: Sequence[str],
    colors: Sequence[Color],
    *,
    with_legend: bool = True,
    filled: bool = True,
    largest: int = LARGEST_OVERLAY,
) -> NDArray[np.uint8]:
    """Draw a panel over a single image.

    Lines and text have the same size relative to every image. The long side of the result has at
    least SMALLEST_OVERLAY pixels, so that text is legible, and at most `largest`.

    Args:
        image: RGB, (H, W, 3).
        panel: What to draw over it.
        classes: Names of the classes.
        colors: Colors of the classes.
        with_legend: Add a legend below the image for colors without labels in the image.
        filled: As of `draw_panel`.
        largest: Largest long side in pixels; it limits the time.

    Returns:
        RGB, (h, w, 3).
    """
    longest = max(image.shape[:2])
    if longest > largest:
        image, panel = _downscale(image, panel, largest / longest)
        longest = largest
    factor = max(1.0, SMALLEST_OVERLAY / longest)
    dots = factor * longest / OVERLAY_INCHES
    # A hundredth of a pixel more, so that rounding down keeps whole numbers.
    width, height = (factor * side / dots + 0.01 / dots for side in image.shape[1::-1])
    legend = _make_legend([panel], classes, colors) if with_legend else []
    columns = max(1, int(width / LEGEND_INCHES))
    strip = 0.12 + 0.2 * -(-len(legend) // columns) if legend else 0.0
    figure = Figure(figsize=(width, height + strip), dpi=dots, facecolor="white")
    axis = figure.add_axes((0, strip / (height + strip), 1, height / (height + strip)))
    axis.set_axis_off()
    draw_panel(axis, image, panel, classes, colors, filled)
    if legend:
        _add_legend(figure, legend, loc="lower center", ncols=columns, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _find_borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the pixels of a class map (H, W) beside another class, as wide as a drawn line."""
    width = 2 * max(1, round(max(labels.shape) / BORDERS_PER_SIDE)) + 1
    kernel = np.ones((width, width), np.uint8)
    values = labels.astype(np.uint16)
    return cv2.dilate(values, kernel) != cv2.erode(values, kernel)


def _downscale(
    image: NDArray[np.uint8], panel: Panel, factor: float
) -> tuple[NDArray[np.uint8], Panel]:
    """Scale down an image and what is drawn over it."""
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    semantic = panel.semantic
    if semantic is not None:
        size = (width, height)
        semantic = np.asarray(cv2.resize(semantic, size, interpolation=cv2.INTER_NEAREST))
    outlines = [[part * factor for part in parts] for parts in panel.outlines]
    return np.asarray(small, dtype=np.uint8), replace(
        panel, boxes=panel.boxes * factor, outlines=outlines, semantic=semantic
    )


def _make_legend(
    panels: Iterable[Panel], classes: Sequence[str], colors: Sequence[Color]
) -> list[tuple[Patch, str]]:
    """Make the legend for class maps and objects without labels, most frequent class first."""
    area = np.zeros(len(classes))
    for panel in panels:
        labels = panel.labels if len(panel.boxes) > LABELS_AT_MOST and len(classes) > 1 else ()
        if panel.semantic is not None:
            labels = panel.semantic[panel.semantic < len(classes)].ravel()
        area += np.bincount(np.asarray(labels, dtype=int), minlength=len(classes))
    order = [i for i in np.argsort(-area, kind="stable") if area[i] > 0]
    names = name_classes(classes)
    entries = [(Patch(fc=colors[i]), names[i]) for i in order[:LEGEND_AT_MOST]]
    if len(order) > LEGEND_AT_MOST:
        entries.append((Patch(fc="none"), f"and {len(order) - LEGEND_AT_MOST} more"))
    return entries


def _add_legend(figure: Figure, entries: Sequence[tuple[Patch, str]], **options: Any) -> None:
    """Put a legend in a figure, each name as it is."""
    patches, names = zip(*entries, strict=True)
    family = plain_text(*names)["fontfamily"]
    # matplotlib leaves out names that begin with an underscore, so they come after.
    placeholders = [str(number) for number in range(len(names))]
    prop = dict(size=8, family=family)
    legend = figure.legend(handles=patches, labels=placeholders, prop=prop, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False, usetex=False)
