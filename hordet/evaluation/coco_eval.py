"""COCO's average precision and recall, by faster-coco-eval or by pycocotools.

Both give the same metrics. faster-coco-eval runs over a few categories at a time: the metrics of
one category do not depend on the others, and so only a part of the detections is in memory as
COCO's dicts.

Inside, ids are numbered anew: pycocotools takes a true object of id 0 for none, faster-coco-eval
those of negative ids too, and neither reads texts or numbers beyond 64 bits.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faster_coco_eval
import numpy as np
from faster_coco_eval.core import mask as fast_mask
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hordet.evaluation.coco_results import ImageResult, check_ids

BACKENDS = ("faster-coco-eval", "pycocotools")
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Number of detections and true objects held as COCO's dicts at one time; each takes about 1 kB.
CHUNK = 50_000


@dataclass
class CocoScores:
    """The results of COCO's evaluation of boxes or masks.

    Attributes:
        stats: COCO's 12 metrics in its order; -1 without true objects. Average precisions, and the
            recalls of small, medium and large objects, are at the largest number of detections.
        precision: Precision (T, R, K, A, M) over IoU thresholds, recalls 0 to 1 in steps of 0.01,
            categories, areas (all, small, medium, large), and numbers of detections; -1 where a
            category has no true object.
        recall: Highest recall (T, K, A, M); -1 where a category has no true object.
        scores: Score (T, R, K, A, M) at which each precision is reached.
        categories: Category ids (K), ascending; [-1] if categories are not distinguished.
        summary: The twelve lines that COCO prints.
        caution: What keeps the metrics below 1 whatever is detected; empty if nothing does.
    """

    stats: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]
    categories: list[Any]
    summary: str
    caution: str = ""

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
    category_ids: Sequence[Any] | None = None,
    max_detections: Sequence[int] = (1, 10, 100),
    iou_thresholds: Sequence[float] | NDArray[np.float64] = IOU_THRESHOLDS,
    use_categories: bool = True,
    backend: str = "faster-coco-eval",
) -> CocoScores:
    """Score detections by COCO's rules.

    Args:
        truth: Content of an annotation file; it is not changed. Ids may be any numbers or texts.
        results: One for each image that has detections.
        iou_type: 'bbox' or 'segm'.
        category_ids: Categories to score; all by default.
        max_detections: Three numbers of detections for each image and category, ascending: those
            with the highest scores count. Average precision is at the last.
        iou_thresholds: IoU from which a detection counts as correct.
        use_categories: Whether a detection must also have the right category.
        backend: 'faster-coco-eval', or 'pycocotools', which is slower and needs more memory.

    Raises:
        EvaluationError: The truth lacks the image of a result.
    """
    names = [item["id"] for item in truth["categories"]]
    wanted = sort_ids({*(names if category_ids is None else category_ids)})
    limits = sorted(max_detections)
    thresholds = np.asarray(iou_thresholds)
    numbered, detected, numbers = _number_anew(truth, results, wanted)
    settings = dict(
        imgIds=[image["id"] for image in numbered["images"]],
        maxDets=limits,
        iouThrs=thresholds,
        useCats=int(use_categories),
    )
    run = _run_pycocotools if backend == "pycocotools" else _run_faster_coco_eval
    parts = run(numbered, detected, iou_type, numbers, settings)
    precision, recall, scores = zip(*parts, strict=True)
    counted = {
        "precision": np.concatenate(precision, axis=2),
        "recall": np.concatenate(recall, axis=1),
    }
    stats, summary = _summarize(**counted, limits=limits, thresholds=thresholds)
    return CocoScores(
        stats,
        **counted,
        scores=np.concatenate(scores, axis=2),
        categories=wanted if use_categories else [-1],
        summary=summary,
        caution=_explain_limit(numbered, numbers, limits[-1], use_categories),
    )


def sort_ids(ids: Iterable[Hashable]) -> list[Any]:
    """Return ids in ascending order: numbers, then texts."""
    return sorted(ids, key=lambda key: (isinstance(key, str), key))


def _number_anew(
    truth: dict[str, Any], results: Sequence[ImageResult], wanted: Sequence[Any]
) -> tuple[dict[str, Any], list[ImageResult], list[int]]:
    """Number images from 0, categories and objects from 1, in the order of their ids.

    Args:
        truth: Content of an annotation file.
        results: Detections of its images.
        wanted: Ids of the categories to score.

    Returns:
        The truth and the results by the new numbers, and those of the wanted categories. What is
        of no image is left out; a category that the truth lacks gets a number that is not wanted.
    """
    images = {key: i for i, key in enumerate(sort_ids({i["id"] for i in truth["images"]}))}
    found = {key for result in results for key in result.categories.tolist()}
    told = {item["id"] for item in truth["categories"]}
    kept = [a for a in _get_annotations(truth) if a["image_id"] in images]
    others = {*told, *found, *(a["category_id"] for a in kept)} - {*wanted}
    categories = {key: i for i, key in enumerate((*wanted, *sort_ids(others)), 1)}
    check_ids((result.image_id for result in results), images)
    numbered = dict(
        images=[dict(image, id=images[image["id"]]) for image in truth["images"]],
        categories=[dict(item, id=categories[item["id"]]) for item in truth["categories"]],
        annotations=[
            dict(
                annotation,
                id=number,
                image_id=images[annotation["image_id"]],
                category_id=categories[annotation["category_id"]],
            )
            for number, annotation in enumerate(kept, 1)
        ],
    )
    detected = [
        replace(
            result,
            image_id=images[result.image_id],
            categories=np.array([categories[key] for key in result.categories.tolist()], dtype=int),
        )
        for result in results
    ]
    detected.sort(key=lambda result: result.image_id)
    return numbered, detected, [categories[key] for key in wanted]


def _summarize(
    precision: NDArray, recall: NDArray, limits: Sequence[int], thresholds: NDArray
) -> tuple[NDArray[np.float64], str]:
    """Return COCO's twelve metrics and lines from its tables.

    pycocotools' `summarize` gives three of them at the largest number of detections and the first
    at 100 or not at all.

    Args:
        precision: Table (T, R, K, A, M).
        recall: Table (T, K, A, M).
        limits: Numbers of detections (M), ascending.
        thresholds: IoU thresholds (T).
    """
    areas = ("all", "small", "medium", "large")
    rows: list[tuple[bool, float | None, int, int]] = [(True, None, 0, -1)]  # AP: IoU, area, limit
    rows += [(True, 0.5, 0, -1), (True, 0.75, 0, -1)]
    rows += [(True, None, area, -1) for area in (1, 2, 3)]
    rows += [(False, None, 0, limit) for limit in (0, 1, 2)]
    rows += [(False, None, area, -1) for area in (1, 2, 3)]
    stats, lines = [], []
    for is_precision, threshold, area, limit in rows:
        values = precision[..., area, limit] if is_precision else recall[..., area, limit]
        if threshold is not None:
            values = values[np.isclose(thresholds, threshold)]
        values = values[values > -1]
        value = float(np.mean(values)) if values.size else -1.0
        span = f"{thresholds[0]:0.2f}:{thresholds[-1]:0.2f}"
        span = span if threshold is None else f"{threshold:0.2f}"
        title, short = ("Precision", "(AP)") if is_precision else ("Recall", "(AR)")
        lines.append(
            f" {'Average ' + title:<18} {short} @[ IoU={span:<9} | area={areas[area]:>6s} | "
            f"maxDets={limits[limit]:>3d} ] = {value:0.3f}"
        )
        stats.append(value)
    return np.array(stats), "\n".join(lines)


def _explain_limit(
    truth: dict[str, Any], categories: Sequence[int], limit: int, use_categories: bool
) -> str:
    """Say where an image has more true objects of a category than detections that count."""
    wanted = {*categories}
    counts = Counter(
        (a["image_id"], a["category_id"] if use_categories else None)
        for a in _get_annotations(truth)
        if a["category_id"] in wanted and not a.get("iscrowd")
    )
    beyond = {key[0] for key, number in counts.items() if number > limit}
    if not beyond:
        return ""
    of = " of one category" if use_categories else ""
    return (
        f"{len(beyond)} of {len(truth['images'])} images have more true objects{of} (up to "
        f"{max(counts.values())}) than the {limit} detections that count, so recall and average "
        f"precision cannot reach 1. Let more count: --max-dets {max(counts.values())}"
    )


def _run_pycocotools(
    truth: dict, results: Sequence[ImageResult], iou_type: str, wanted: list[int], settings: dict
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield precision, recall and scores of all categories."""
    with contextlib.redirect_stdout(io.StringIO()):
        true, predicted = COCO(), COCO()
        true.dataset = truth
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
    true = faster_coco_eval.COCO(truth)
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
