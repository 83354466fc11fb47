"""COCO's average precision and recall, by faster-coco-eval or by pycocotools.

Both give the same metrics. faster-coco-eval runs over a few categories at a time: the metrics of
one category do not depend on the others, and so only a part of the detections is in memory as
COCO's dicts.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import faster_coco_eval
import numpy as np
from faster_coco_eval.core import mask as fast_mask
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hordet.evaluation.coco_results import ImageResult

BACKENDS = ("faster-coco-eval", "pycocotools")
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Number of detections and true objects held as COCO's dicts at one time; each takes about 1 kB.
CHUNK = 50_000


@dataclass
class CocoScores:
    """The results of COCO's evaluation of boxes or masks.

    Attributes:
        stats: COCO's 12 metrics in its order; -1 without true objects.
        precision: Precision (T, R, K, A, M) over IoU thresholds, recalls 0 to 1 in steps of 0.01,
            categories, areas (all, small, medium, large), and numbers of detections; -1 where a
            category has no true object.
        recall: Highest recall (T, K, A, M); -1 where a category has no true object.
        scores: Score (T, R, K, A, M) at which each precision is reached.
        categories: Category ids (K), ascending; [-1] if categories are not distinguished.
        summary: The twelve lines that COCO prints.
    """

    stats: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]
    categories: list[int]
    summary: str

    def summarize_category(self, index: int) -> dict[str, float]:
        """Return AP, AP50, AP75, APs, APm, APl and AR of a category; NaN without true objects.

        Args:
            index: Position of the category in `categories`.
        """
        all_areas = self.precision[:, :, index, 0, -1]
        parts = {"AP": all_areas, "AP50": all_areas[0], "AP75": all_areas[5:6]}
        for area, name in enumerate(("APs", "APm", "APl"), start=1):
            parts[name] = self.precision[:, :, index, area, -1]
        parts["AR"] = self.recall[:, index, 0, -1]
        kept = {name: values[values > -1] for name, values in parts.items()}
        return {name: float(v.mean()) if v.size else float("nan") for name, v in kept.items()}


def evaluate_coco(
    truth: dict[str, Any],
    results: Sequence[ImageResult],
    iou_type: str,
    *,
    category_ids: Sequence[int] | None = None,
    max_detections: Sequence[int] = (1, 10, 100),
    iou_thresholds: Sequence[float] | NDArray[np.float64] = IOU_THRESHOLDS,
    use_categories: bool = True,
    backend: str = "faster-coco-eval",
) -> CocoScores:
    """Score detections by COCO's rules.

    Args:
        truth: Content of an annotation file; its annotations gain keys, but no value changes.
        results: One for each image that has detections; all are images of the annotation file.
        iou_type: 'bbox' or 'segm'.
        category_ids: Categories to score; all by default.
        max_detections: Three numbers of detections for each image, ascending.
        iou_thresholds: IoU from which a detection counts as correct.
        use_categories: Whether a detection must also have the right category.
        backend: 'faster-coco-eval', or 'pycocotools', which is slower and needs more memory.
    """
    names = [item["id"] for item in truth["categories"]]
    wanted = sorted(set(names if category_ids is None else category_ids))
    settings = dict(
        imgIds=sorted(image["id"] for image in truth["images"]),
        maxDets=sorted(max_detections),
        iouThrs=np.asarray(iou_thresholds),
        useCats=int(use_categories),
    )
    run = _run_pycocotools if backend == "pycocotools" else _run_faster_coco_eval
    parts = run(truth, sorted(results, key=lambda item: item.image_id), iou_type, wanted, settings)
    precision, recall, scores = zip(*parts, strict=True)
    counted = {
        "precision": np.concatenate(precision, axis=2),
        "recall": np.concatenate(recall, axis=1),
    }
    # pycocotools computes the twelve metrics from the tables of either backend.
    summarizer = COCOeval(iouType=iou_type)
    _set_parameters(summarizer.params, catIds=wanted, **settings)
    summarizer.eval = counted
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        summarizer.summarize()
    return CocoScores(
        summarizer.stats,
        **counted,
        scores=np.concatenate(scores, axis=2),
        categories=wanted if use_categories else [-1],
        summary=lines.getvalue().rstrip(),
    )


def _run_pycocotools(
    truth: dict, results: Sequence[ImageResult], iou_type: str, wanted: list[int], settings: dict
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield precision, recall and scores of all categories."""
    with contextlib.redirect_stdout(io.StringIO()):
        true, predicted = COCO(), COCO()
        # It replaces polygons by run lengths, so it gets copies.
        true.dataset = {**truth, "annotations": [dict(item) for item in _get_annotations(truth)]}
        true.createIndex()
        predicted.dataset = {**truth, "annotations": _Detections(results, iou_type).make_dicts()}
        predicted.createIndex()
        evaluation = COCOeval(true, predicted, iou_type)
        _set_parameters(evaluation.params, catIds=wanted, **settings)
        evaluation.evaluate()
        evaluation.accumulate()
    yield tuple(evaluation.eval[key] for key in ("precision", "recall", "scores"))


def _run_faster_coco_eval(
    truth: dict, results: Sequence[ImageResult], iou_type: str, wanted: list[int], settings: dict
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield precision, recall and scores of a few categories at a time."""
    true = faster_coco_eval.COCO({**truth, "annotations": _get_annotations(truth)})
    detections = _Detections(results, iou_type)
    numbers = dict(zip(*np.unique(detections.categories, return_counts=True), strict=True))
    for annotation in _get_annotations(truth):
        category = annotation["category_id"]
        numbers[category] = numbers.get(category, 0) + 1
    chunks = _split_categories(wanted, numbers) if settings["useCats"] else [wanted]
    for chunk in chunks:
        kept = chunk if settings["useCats"] else None
        predicted = faster_coco_eval.COCO({**truth, "annotations": detections.make_dicts(kept)})
        evaluation = faster_coco_eval.COCOeval_faster(true, predicted, iou_type)
        _set_parameters(evaluation.params, catIds=chunk, **settings)
        evaluation.evaluate()
        evaluation.accumulate()
        yield tuple(evaluation.eval[key] for key in ("precision", "recall", "scores"))


class _Detections:
    """The detections of all images in one order: image after image."""

    def __init__(self, results: Sequence[ImageResult], iou_type: str) -> None:
        self.results, self.iou_type = results, iou_type
        self.counts = [len(result.scores) for result in results]
        empty = np.zeros(0, dtype=int)
        self.categories = np.concatenate([empty, *(result.categories for result in results)])
        self.starts = np.cumsum([0, *self.counts[:-1]])

    def make_dicts(self, categories: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return the detections of some categories, or all, as COCO's dicts with ids from 1."""
        made: list[dict[str, Any]] = []
        keep = np.ones(len(self.categories), dtype=bool)
        if categories is not None:
            keep = np.isin(self.categories, categories)
        parts = np.split(keep, self.starts[1:]) if len(self.starts) > 1 else [keep]
        for result, part in zip(self.results, parts, strict=False):
            (chosen,) = np.nonzero(part)
            boxes = result.boxes[chosen].tolist()
            scores = result.get_scores(self.iou_type)[chosen].tolist()
            labels = result.categories[chosen].tolist()
            size = list(result.size)
            masks = result.masks if self.iou_type == "segm" else None
            for i, box, score, label in zip(chosen.tolist(), boxes, scores, labels, strict=True):
                item = {
                    "id": len(made) + 1,
                    "image_id": result.image_id,
                    "category_id": label,
                    "score": score,
                    "iscrowd": 0,
                }
                if masks is None:
                    item |= {"bbox": box, "area": box[2] * box[3]}
                else:
                    item["segmentation"] = {"size": size, "counts": masks[i]}
                made.append(item)
        if self.iou_type == "segm" and made:
            areas = fast_mask.area([item["segmentation"] for item in made])
            for item, area in zip(made, areas, strict=True):
                item["area"] = area
        return made


def _get_annotations(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return truth.get("annotations", [])


def _split_categories(categories: Sequence[int], numbers: dict[int, int]) -> Iterator[list[int]]:
    """Split categories into groups of about CHUNK detections and true objects."""
    chunk: list[int] = []
    for category in categories:
        chunk.append(category)
        if sum(numbers.get(item, 0) for item in chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _set_parameters(params: Any, **settings: Any) -> None:
    for name, value in settings.items():
        setattr(params, name, value)
