"""What is drawn over an image: true or predicted objects, or a class map."""

import colorsys
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hordet.ops.run_lengths import decode_segmentation

Color = tuple[float, float, float]


@dataclass
class Panel:
    """One image with objects or a semantic map drawn over it."""

    caption: str
    boxes: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 4)))  # (n, 4) xyxy
    labels: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, int))  # (n,)
    scores: NDArray[np.floating] | None = None  # (n,)
    outlines: list[list[NDArray[np.integer]]] = field(default_factory=list)  # n x parts x (k, 2)
    semantic: NDArray[np.integer] | None = None  # (H, W) class numbers


@dataclass
class Pair:
    """Truth and prediction of one image."""

    index: int
    image_path: str
    truth: Panel
    prediction: Panel


def get_class_colors(metainfo: dict[str, Any]) -> tuple[list[str], list[Color]]:
    """Read class names and colors (0 to 1) of a dataset; make colors where it has none."""
    classes = list(metainfo.get("classes") or ["object"])
    palette = metainfo.get("palette")
    if isinstance(palette, (list, tuple)) and len(palette) >= len(classes):
        return classes, [(r / 255, g / 255, b / 255) for r, g, b in palette]
    # Hues a golden ratio apart: neighbors in number are far apart in color.
    return classes, [colorsys.hsv_to_rgb(0.618 * i % 1, 0.85, 0.95) for i in range(len(classes))]


def make_truth_panel(info: dict[str, Any], size: tuple[int, int]) -> Panel:
    """Read the annotated objects of an image of (height, width); crowds are left out."""
    objects = [item for item in info.get("instances", ()) if not item.get("ignore_flag")]
    has_masks = any(item.get("mask") for item in objects)
    masks = (
        [decode_segmentation(item.get("mask", []), size) for item in objects] if has_masks else []
    )
    return Panel(
        caption=f"truth: {_count(len(objects))}",
        boxes=np.array([item["bbox"] for item in objects], dtype=float).reshape(-1, 4),
        labels=np.array([item["bbox_label"] for item in objects], dtype=int),
        outlines=[[] if mask is None else find_outlines(mask) for mask in masks],
    )


def make_prediction_panel(instances: Any, score_threshold: float) -> Panel:
    """Read the predicted objects of at least this score from mmdet's `pred_instances`."""
    kept = instances[instances.scores >= score_threshold].cpu()
    masks = kept.masks if "masks" in kept else ()
    if isinstance(masks, list):  # of RleMaskHead
        masks = [coco_mask.decode(mask) for mask in masks]
    return Panel(
        caption=f"prediction: {_count(len(kept))} of score ≥ {score_threshold:g}",
        boxes=kept.bboxes.float().numpy(),
        labels=kept.labels.numpy(),
        scores=kept.scores.float().numpy(),
        outlines=[find_outlines(np.asarray(mask)) for mask in masks],
    )


def get_predicted_classes(sample: Any) -> NDArray[np.integer]:
    """Read the class map (H, W) from a data sample of mmseg, or a panoptic one of mmdet.

    Of panoptic segments the classes are read, without borders between objects; no segment is a
    number beyond the classes.
    """
    if "pred_sem_seg" in sample:
        return sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
    # Here, for it brings mmdet's metrics and data sets, which a segmentor does without.
    from mmdet.evaluation.functional import INSTANCE_OFFSET

    ids = sample.pred_panoptic_seg.sem_seg.squeeze(0).cpu().numpy()
    # mmdet's metric has marked pixels of no segment by 0, which no segment has.
    return np.where(ids == 0, 255, ids % INSTANCE_OFFSET)


def make_semantic_panels(sample: Any) -> tuple[Panel, Panel]:
    """Read the true class map and the predicted one, as `get_predicted_classes` does."""
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


def _count(number: int) -> str:
    return f"{number} object" + ("" if number == 1 else "s")


def find_outlines(mask: NDArray[Any]) -> list[NDArray[np.integer]]:
    """Trace the contours of a mask (H, W), those of holes in the opposite direction."""
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    return [contour[:, 0] for contour in contours]
