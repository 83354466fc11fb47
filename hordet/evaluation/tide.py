"""The errors of a detector: TIDE's kinds of error, a confusion matrix, a score for each image.

Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hordet.evaluation.coco_results import ImageResult
from hordet.ops.run_lengths import encode_segmentation

FOREGROUND, BACKGROUND = 0.5, 0.1  # overlaps t_f and t_b of the paper, section 2.2
KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
CONFUSION_SCORE = 0.3  # the lowest score of detections in the confusion matrix


@dataclass
class DetectionErrors:
    """The errors of all images.

    Attributes:
        counts: Number of errors of each kind.
        gains: AP50 that correcting only this kind would add (the paper's delta AP), 0 to 1.
        ap50: AP50 with all errors.
        confusion: Number of detections (K + 1, K + 1) of at least CONFUSION_SCORE by true (row) and
            predicted (column) category; the last row is background, the last column missed
            objects.
        quality: F1 of each image at CONFUSION_SCORE, by image id.
    """

    counts: dict[str, int]
    gains: dict[str, float]
    ap50: float
    confusion: NDArray[np.int64]
    quality: dict[int, float] = field(default_factory=dict)


@dataclass
class _JudgedDetection:
    """One detection: its category, score, kind ('right' or one of KINDS), and true object."""

    category: int
    score: float
    kind: str
    target: tuple[int, int] | None = None
    true_category: int | None = None


def find_errors(
    truth: dict[str, Any], results: Sequence[ImageResult], categories: Sequence[int], kind: str
) -> DetectionErrors:
    """Find the errors among detections.

    Args:
        truth: Content of the annotation file.
        results: The detections.
        categories: Category ids in the order of the matrix.
        kind: 'bbox' or 'segm': whether overlaps are of boxes or of masks.
    """
    by_image: dict[int, list[dict]] = {}
    for annotation in truth["annotations"]:
        if annotation["category_id"] in categories:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    predicted = {result.image_id: result for result in results}
    found: list[_JudgedDetection] = []
    missed: dict[int, int] = dict.fromkeys(categories, 0)
    total: dict[int, int] = dict.fromkeys(categories, 0)
    place = {category: k for k, category in enumerate(categories)}
    confusion = np.zeros((len(categories) + 1, len(categories) + 1), dtype=np.int64)
    quality = {}
    for key, size in sizes.items():
        objects = by_image.get(key, [])
        real = [item for item in objects if not item.get("iscrowd")]
        own = _judge(key, objects, predicted.get(key), size, kind)
        found += own
        for annotation in real:
            total[annotation["category_id"]] += 1
        taken = {item.target for item in own if item.kind == "right"}
        covered = {item.target for item in own if item.kind in ("classification", "localization")}
        for index, annotation in enumerate(objects):
            if not annotation.get("iscrowd") and (key, index) not in taken | covered:
                missed[annotation["category_id"]] += 1
        sure = [item for item in own if item.score >= CONFUSION_SCORE]
        right = {item.target for item in sure if item.kind == "right"}
        seen = set(right)
        for item in sure:
            row = len(categories)
            if item.kind in ("right", "classification") and item.true_category is not None:
                row = place[item.true_category]
                seen.add(item.target)
            confusion[row, place[item.category]] += 1
        for index, annotation in enumerate(objects):
            if not annotation.get("iscrowd") and (key, index) not in seen:
                confusion[place[annotation["category_id"]], -1] += 1
        if real or sure:
            quality[key] = 2 * len(right) / (len(real) + len(sure))
    counts = {name: sum(item.kind == name for item in found) for name in KINDS[:-1]}
    counts["missed"] = sum(missed.values())
    ap50 = _compute_mean_ap(found, total)
    gains = {
        name: max(
            0.0, _compute_mean_ap(_correct(found, name), _count_left(total, missed, name)) - ap50
        )
        for name in KINDS
    }
    return DetectionErrors(counts, gains, ap50, confusion, quality)


def _judge(
    key: int, objects: list[dict], result: ImageResult | None, size: tuple[int, int], kind: str
) -> list[_JudgedDetection]:
    """Judge the detections of an image, best score first; detections of crowds are left out."""
    if result is None or not len(result.scores):
        return []
    overlaps = _compute_overlaps(objects, result, size, kind)
    true = np.array([item["category_id"] for item in objects], dtype=int)
    crowd = np.array([bool(item.get("iscrowd")) for item in objects], dtype=bool)
    scores = result.get_scores(kind)
    taken: set[int] = set()
    found = []
    for i in np.argsort(-scores, kind="stable")[:100].tolist():
        row, category = overlaps[i], int(result.categories[i])
        same = true == category
        free = np.flatnonzero(same & ~crowd & (row >= FOREGROUND)).tolist()
        free = [j for j in free if j not in taken]
        made = _JudgedDetection(category, float(scores[i]), "background")
        if free:
            best = max(free, key=lambda j: row[j])
            taken.add(best)
            made.kind, made.target, made.true_category = "right", (key, best), category
        elif (row[crowd & same] >= FOREGROUND).any():
            continue
        elif len(row) and (row[~crowd] >= BACKGROUND).any():
            _classify_error(made, key, row, same & ~crowd, ~same & ~crowd, true)
        found.append(made)
    return found


def _classify_error(
    made: _JudgedDetection, key: int, row: NDArray, same: NDArray, other: NDArray, true: NDArray
) -> None:
    """Set the kind of error, in place, of a wrong detection that overlaps true objects.

    Args:
        made: The detection.
        key: Id of the image.
        row: Its overlap with each true object, (M,).
        same: Which objects have its category and are no crowds, (M,).
        other: Which objects have another category and are no crowds, (M,).
        true: Categories of the objects, (M,).
    """
    best_same = int(np.argmax(np.where(same, row, -1)))
    best_other = int(np.argmax(np.where(other, row, -1)))
    near = row[best_same] if same.any() else 0.0
    far = row[best_other] if other.any() else 0.0
    chosen = best_same if near >= far or near >= BACKGROUND else best_other
    if near >= FOREGROUND:
        made.kind = "duplicate"
    elif far >= FOREGROUND:
        made.kind, chosen = "classification", best_other
    elif near >= BACKGROUND:
        made.kind = "localization"
    else:
        made.kind = "both"
    made.target, made.true_category = (key, chosen), int(true[chosen])


def _compute_overlaps(
    objects: list[dict], result: ImageResult, size: tuple[int, int], kind: str
) -> NDArray[np.float64]:
    """Return overlaps (N, M) of detections and true objects."""
    if not objects:
        return np.zeros((len(result.scores), 0))
    crowd = [int(item.get("iscrowd", 0)) for item in objects]
    if kind == "bbox":
        boxes = np.array([item["bbox"] for item in objects], dtype=np.float64)
        return np.asarray(coco_mask.iou(result.boxes, boxes, crowd))
    masks = [encode_segmentation(item["segmentation"], size) for item in objects]
    return np.asarray(coco_mask.iou(result.get_run_lengths(), masks, crowd))


def _correct(found: list[_JudgedDetection], kind: str) -> list[_JudgedDetection]:
    """Return the detections with one kind of error corrected, as the paper's oracles do."""
    taken = {item.target for item in found if item.kind == "right"}
    made = []
    for item in sorted(found, key=lambda item: -item.score):
        if item.kind != kind:
            made.append(item)
        elif kind in ("classification", "localization") and item.target not in taken:
            taken.add(item.target)
            category = item.true_category if item.true_category is not None else item.category
            made.append(_JudgedDetection(category, item.score, "right", item.target))
    return made


def _count_left(total: dict[int, int], missed: dict[int, int], kind: str) -> dict[int, int]:
    """Return the number of true objects of each category, without missed ones if `kind` says so."""
    return {k: n - missed[k] for k, n in total.items()} if kind == "missed" else total


def _compute_mean_ap(found: list[_JudgedDetection], total: dict[int, int]) -> float:
    """Return COCO's interpolated AP at an overlap of 0.5, mean over categories."""
    values = []
    for category, number in total.items():
        if not number:
            continue
        own = sorted((f for f in found if f.category == category), key=lambda f: -f.score)
        right = np.cumsum([item.kind == "right" for item in own])
        if not len(right):
            values.append(0.0)
            continue
        precision = right / np.arange(1, len(right) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(right / number, np.linspace(0, 1, 101), side="left")
        values.append(float(np.append(precision, 0)[places].mean()))
    return float(np.mean(values)) if values else 0.0
