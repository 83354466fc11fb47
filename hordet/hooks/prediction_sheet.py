"""A sheet of validation pictures, prediction beside truth, at each validation."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path as MplPath
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hordet.registry import HOOKS

Colour = tuple[float, float, float]

PANEL_INCHES = 3.6
DOTS_PER_INCH = 110
LABELS_AT_MOST = 20  # objects of one panel; more labels would hide the picture
LEGEND_AT_MOST = 30  # classes, largest area first


@dataclass
class Panel:
    """One picture with objects or a semantic map drawn over it."""

    caption: str
    boxes: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 4)))  # (n, 4) xyxy
    labels: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, int))  # (n,)
    scores: NDArray[np.floating] | None = None  # (n,)
    outlines: list[list[NDArray[np.integer]]] = field(default_factory=list)  # n x parts x (k, 2)
    semantic: NDArray[np.integer] | None = None  # (H, W) class numbers


@dataclass
class Pair:
    """Truth and prediction of one picture."""

    index: int
    image_path: str
    truth: Panel
    prediction: Panel


@HOOKS.register_module()
class PredictionSheetHook(Hook):
    """Write `WORK_DIR/predictions/epoch_12.png` (or `iter_4000.png`) at each validation.

    The pictures are the same every time, spread evenly over the validation set. Detectors show
    masks, boxes, classes and scores; segmentors show class maps, a legend, and the share of right
    pixels among those with a true class.

    Args:
        num_pictures: Pictures on the sheet.
        score_threshold: Objects below this score are not drawn.

    Raises:
        ValueError: `num_pictures` is not positive or `score_threshold` is outside 0 to 1.
    """

    def __init__(self, num_pictures: int = 6, score_threshold: float = 0.4) -> None:
        """Check and keep the settings."""
        if num_pictures < 1:
            raise ValueError(
                f"got num_pictures={num_pictures}; allowed is 1 or more (for no sheet, take the "
                "hook out of custom_hooks)."
            )
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"got score_threshold={score_threshold}; allowed is 0 to 1.")
        self.num_pictures = num_pictures
        self.score_threshold = score_threshold
        self._wanted: dict[str, int] = {}  # path of the picture: index in the dataset
        self._pairs: list[Pair] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the pictures."""
        dataset = runner.val_dataloader.dataset
        count = min(self.num_pictures, len(dataset))
        indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        self._wanted = {dataset.get_data_info(i)["img_path"]: i for i in indices}
        self._pairs = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep what is drawn of the chosen pictures in this batch."""
        for sample in outputs or ():
            path = sample.metainfo["img_path"]
            if path not in self._wanted:
                continue
            index = self._wanted[path]
            if "pred_sem_seg" in sample or "pred_panoptic_seg" in sample:
                truth, prediction = semantic_panels(sample)
            else:
                info = runner.val_dataloader.dataset.get_data_info(index)
                truth = true_objects(info, sample.metainfo["ori_shape"][:2])
                prediction = predicted_objects(sample.pred_instances, self.score_threshold)
            self._pairs.append(Pair(index, path, truth, prediction))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Gather the pictures of all processes and write the sheet."""
        gathered = {pair.index: pair for part in all_gather_object(self._pairs) for pair in part}
        self._pairs = []
        if not gathered or not is_main_process():
            return
        classes, colours = class_colours(runner.val_dataloader.dataset.metainfo)
        name, title = _moment(runner)
        figure = draw_sheet([gathered[i] for i in sorted(gathered)], classes, colours, title)
        path = Path(runner.work_dir) / "predictions" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DOTS_PER_INCH)


def _moment(runner: Runner) -> tuple[str, str]:
    """Name the point of training, for the file and for the title."""
    # Runner.epoch would build the training loop, data included, of a run that only validates.
    if runner._train_loop is None or isinstance(runner._train_loop, dict):
        return "validation", "validation"
    if runner.log_processor.by_epoch:
        return f"epoch_{runner.epoch}", f"epoch {runner.epoch} of {runner.max_epochs}"
    return f"iter_{runner.iter}", f"iteration {runner.iter} of {runner.max_iters}"


def class_colours(metainfo: dict[str, Any]) -> tuple[list[str], list[Colour]]:
    """Read class names and colours (0 to 1) of a dataset; make colours where it has none."""
    classes = list(metainfo.get("classes") or ["object"])
    palette = metainfo.get("palette")
    if isinstance(palette, (list, tuple)) and len(palette) >= len(classes):
        return classes, [(r / 255, g / 255, b / 255) for r, g, b in palette]
    # Hues a golden ratio apart: neighbours in number are far apart in colour.
    return classes, [colorsys.hsv_to_rgb(0.618 * i % 1, 0.85, 0.95) for i in range(len(classes))]


def true_objects(info: dict[str, Any], size: tuple[int, int]) -> Panel:
    """Read the annotated objects of a picture of (height, width); crowds are left out."""
    objects = [item for item in info.get("instances", ()) if not item.get("ignore_flag")]
    has_masks = any(item.get("mask") for item in objects)
    masks = [_decode(item.get("mask", []), size) for item in objects] if has_masks else []
    return Panel(
        caption=f"truth: {_count(len(objects))}",
        boxes=np.array([item["bbox"] for item in objects], dtype=float).reshape(-1, 4),
        labels=np.array([item["bbox_label"] for item in objects], dtype=int),
        outlines=[_outline(mask) for mask in masks],
    )


def predicted_objects(instances: Any, score_threshold: float) -> Panel:
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
        outlines=[_outline(np.asarray(mask)) for mask in masks],
    )


def semantic_panels(sample: Any) -> tuple[Panel, Panel]:
    """Read true and predicted class map from a data sample of mmseg, or a panoptic one of mmdet.

    Of panoptic segments the classes are shown, without borders between objects.
    """
    if "pred_sem_seg" in sample:
        predicted = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
    else:
        ids = sample.pred_panoptic_seg.sem_seg.squeeze(0).cpu().numpy()
        # mmdet's metric has marked pixels of no segment by 0, which no segment has.
        predicted = np.where(ids == 0, 255, ids % INSTANCE_OFFSET)
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


def _decode(segmentation: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Rasterise COCO polygons or run lengths to (height, width)."""
    if isinstance(segmentation, list):
        # Fewer than three points are no polygon; pycocotools would read two as a box.
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return np.zeros(size, dtype=np.uint8)
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size)))
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.decode(segmentation)


def _outline(mask: NDArray[Any]) -> list[NDArray[np.integer]]:
    """Trace the contours of a mask (H, W), those of holes in the opposite direction."""
    contours, _ = cv2.findContours(
        np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    return [contour[:, 0] for contour in contours]


def draw_sheet(
    pairs: Sequence[Pair], classes: Sequence[str], colours: Sequence[Colour], title: str
) -> Figure:
    """Lay out truth beside prediction, two pictures a row, with a legend for class maps."""
    columns = min(len(pairs), 2)
    rows = -(-len(pairs) // columns)
    images = [mmcv.imread(pair.image_path, channel_order="rgb") for pair in pairs]
    # One height for all panels: that of the typical picture, within reason.
    ratio = float(np.clip(np.median([i.shape[0] / i.shape[1] for i in images]), 0.4, 1.6))
    legend = _legend(pairs, classes, colours)
    legend_rows = -(-len(legend) // (3 * columns))
    width = 2 * columns * PANEL_INCHES
    panel_height = PANEL_INCHES * ratio + 0.4
    height = rows * panel_height + 0.4 + 0.22 * legend_rows
    # A Figure of its own, not pyplot's: no global state, no window.
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(rows, 2 * columns, squeeze=False)
    for spare in axes.flat:
        spare.set_axis_off()
    for k, (pair, image) in enumerate(zip(pairs, images, strict=True)):
        left = axes[k // columns][2 * (k % columns) :]
        panels = (pair.truth, pair.prediction)
        for axis, panel, name in zip(left, panels, (Path(pair.image_path).name, ""), strict=False):
            draw_panel(axis, image, panel, classes, colours)
            axis.set_title(f"{name}   {panel.caption}".strip(), fontsize=8, loc="left")
    if legend:
        figure.legend(handles=legend, loc="outside lower center", ncols=3 * columns, fontsize=8)
    return figure


def draw_panel(
    axis: Axes,
    image: NDArray[np.uint8],
    panel: Panel,
    classes: Sequence[str],
    colours: Sequence[Colour],
) -> None:
    """Draw one picture (H, W, 3) RGB with its objects or class map."""
    if panel.semantic is not None:
        table = np.array([*colours, (1, 1, 1)])
        painted = panel.semantic < len(colours)
        overlay = table[np.where(painted, panel.semantic, len(colours))]
        strength = np.where(painted, 0.6, 0.0)[..., None]
        image = (image / 255 * (1 - strength) + overlay * strength).clip(0, 1)
    axis.imshow(image)
    axis.autoscale(False)  # boxes beyond the picture do not shrink it
    for i, (box, label) in enumerate(zip(panel.boxes, panel.labels, strict=True)):
        # One class alone: a colour an object tells neighbours apart.
        by_object = colorsys.hsv_to_rgb(0.618 * i % 1, 0.85, 0.95)
        colour = colours[label] if len(classes) > 1 else by_object
        if i < len(panel.outlines):
            rings = [np.vstack([part, part[:1]]) for part in panel.outlines[i] if len(part) > 2]
            shape = MplPath.make_compound_path(*(MplPath(ring, closed=True) for ring in rings))
            axis.add_patch(PathPatch(shape, fc=(*colour, 0.35), ec=(*colour, 1.0), lw=1.0))
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        axis.add_patch(Rectangle((left, top), *size, fill=False, ec=colour, lw=0.8))
        words = [classes[label]] if len(classes) > 1 else []
        words += [f"{panel.scores[i]:.2f}"] if panel.scores is not None else []
        if words and len(panel.boxes) <= LABELS_AT_MOST:
            axis.text(
                left,
                top,
                " ".join(words),
                fontsize=6,
                va="bottom" if top > 0.05 * image.shape[0] else "top",
                color="black" if np.dot(colour, (0.3, 0.59, 0.11)) > 0.5 else "white",
                bbox=dict(fc=colour, ec="none", pad=0.6, alpha=0.85),
                clip_on=True,
            )


def _legend(
    pairs: Sequence[Pair], classes: Sequence[str], colours: Sequence[Colour]
) -> list[Patch]:
    """Name the colours of the class maps, largest area first."""
    area = np.zeros(len(classes))
    for pair in pairs:
        for panel in (pair.truth, pair.prediction):
            if panel.semantic is not None:
                labels = panel.semantic[panel.semantic < len(classes)]
                area += np.bincount(labels.ravel(), minlength=len(classes))
    order = [i for i in np.argsort(-area, kind="stable") if area[i] > 0]
    patches = [Patch(fc=colours[i], label=classes[i]) for i in order[:LEGEND_AT_MOST]]
    if len(order) > LEGEND_AT_MOST:
        patches.append(Patch(fc="none", label=f"and {len(order) - LEGEND_AT_MOST} more"))
    return patches
