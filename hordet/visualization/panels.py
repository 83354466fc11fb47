"""Panels: the true or predicted objects, or the class map, to draw over an image."""

import colorsys
import warnings
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hordet.errors import DatasetWarning
from hordet.ops.run_lengths import decode_segmentation

Color = tuple[float, float, float]


@dataclass
class Panel:
    """What to draw over one image: objects, or a class map.

    Attributes:
        caption: Text above the image.
        boxes: Boxes (n, 4) as (x1, y1, x2, y2), in pixels.
        labels: Class of each object, (n,).
        scores: Score of each object, (n,); None for true objects.
        outlines: Contours of each object's mask, n lists of points (k, 2) as (x, y); empty without
            masks.
        semantic: Class map (H, W); None to draw objects.
    """

    caption: str
    boxes: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 4)))
    labels: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, int))
    scores: NDArray[np.floating] | None = None
    outlines: list[list[NDArray[Any]]] = field(default_factory=list)
    semantic: NDArray[np.integer] | None = None


@dataclass
class Pair:
    """Truth and prediction of one image.

    Attributes:
        index: Number of the image in its data set.
        image_path: File of the image.
        truth: Panel of the true objects or classes.
        prediction: Panel of the predicted ones.
    """

    index: int
    image_path: str
    truth: Panel
    prediction: Panel


def get_class_colors(metainfo: dict[str, Any]) -> tuple[list[str], list[Color]]:
    """Read class names and colors (0 to 1) of a data set; make colors if it has none for each."""
    classes = list(metainfo.get("classes") or ["object"])
    palette = read_palette(metainfo)
    if len(palette) >= len(classes):
        return classes, [(r / 255, g / 255, b / 255) for r, g, b in palette]
    return classes, [make_color(i) for i in range(len(classes))]


def read_palette(metainfo: dict[str, Any]) -> list[list[float]]:
    """Return the red, green and blue (0 to 255) of each class; none where they are something else.

    Warns:
        DatasetWarning: There is a list of something else.
    """
    palette = metainfo.get("palette")
    if not isinstance(palette, list | tuple):  # mmdet has words for its own palettes
        return []
    for color in palette:
        if not isinstance(color, list | tuple) or len(color) != 3 or not all(map(_is_shade, color)):
            warnings.warn(
                f"palette has the color {str(color)[:60]}, where red, green and blue of 0 to 255 "
                "are allowed; colors are made instead. Correct metainfo of the data set",
                DatasetWarning,
                stacklevel=2,
            )
            return []
    return [np.asarray(color).tolist() for color in palette]


def _is_shade(value: object) -> bool:
    return isinstance(value, int | float | np.integer) and bool(0 <= value <= 255)


def make_color(number: int) -> Color:
    """Return a color (0 to 1) by its number; hues of successive numbers are far apart."""
    return colorsys.hsv_to_rgb(0.618 * number % 1, 0.85, 0.95)  # a golden ratio apart


def make_truth_panel(info: dict[str, Any], size: tuple[int, int]) -> Panel:
    """Make a panel of the annotated objects of an image, without crowds.

    Args:
        info: Data info of mmdet, with `instances`.
        size: (height, width) of the image.
    """
    objects = [item for item in info.get("instances", ()) if not item.get("ignore_flag")]
    has_masks = any(item.get("mask") for item in objects)
    masks = (
        [decode_segmentation(item.get("mask", []), size) for item in objects] if has_masks else []
    )
    return Panel(
        caption=f"truth: {_count_objects(len(objects))}",
        boxes=np.array([item["bbox"] for item in objects], dtype=float).reshape(-1, 4),
        labels=np.array([item["bbox_label"] for item in objects], dtype=int),
        outlines=[[] if mask is None else find_outlines(mask) for mask in masks],
    )


def make_prediction_panel(instances: Any, score_threshold: float) -> Panel:
    """Make a panel of the objects in mmdet's `pred_instances` with at least this score."""
    kept = instances[instances.scores >= score_threshold].cpu()
    masks = kept.masks if "masks" in kept else ()
    if isinstance(masks, list):  # run lengths of RleMaskHead
        masks = [coco_mask.decode(mask) for mask in masks]
    return Panel(
        caption=f"prediction: {_count_objects(len(kept))} of score ≥ {score_threshold:g}",
        boxes=kept.bboxes.float().numpy(),
        labels=kept.labels.numpy(),
        scores=kept.scores.float().numpy(),
        outlines=[find_outlines(np.asarray(mask)) for mask in masks],
    )


def get_predicted_classes(sample: Any) -> NDArray[np.integer]:
    """Read the class map (H, W) from a data sample of mmseg, or a panoptic one of mmdet.

    Panoptic segments are reduced to their classes; 255 marks pixels without a segment.
    """
    if "pred_sem_seg" in sample:
        return sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
    # Here, for it brings mmdet's metrics and data sets, which a segmentor does without.
    from mmdet.evaluation.functional import INSTANCE_OFFSET

    ids = sample.pred_panoptic_seg.sem_seg.squeeze(0).cpu().numpy()
    # mmdet's metric has marked pixels without a segment by the id 0.
    return np.where(ids == 0, 255, ids % INSTANCE_OFFSET)


def make_semantic_panels(sample: Any) -> tuple[Panel, Panel]:
    """Make panels of the true and the predicted class map; see `get_predicted_classes`."""
    predicted = get_predicted_classes(sample)
    if "gt_sem_seg" not in sample:
        return Panel("truth: none"), Panel("prediction", semantic=predicted)
    maps = sample.gt_sem_seg
    true = (maps.data if "data" in maps else maps.sem_seg).squeeze(0).cpu().numpy()
    counted = true != 255
    right = (predicted == true)[counted].mean() if counted.any() else float("nan")
    return (
        Panel("truth", semantic=true),
        Panel(f"prediction: {right:.0%} of pixels right", semantic=predicted),
    )


def _count_objects(number: int) -> str:
    return f"{number} object" + ("" if number == 1 else "s")


def find_outlines(mask: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the contours of a mask (H, W), (k, 2) each; holes turn in the opposite direction."""
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    return [contour[:, 0] for contour in contours]
