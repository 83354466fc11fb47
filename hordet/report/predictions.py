"""Predicts the validation images of a run with its best checkpoint, and scores them."""

import contextlib
import copy
import io
import random
import time
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mmengine.registry import METRICS, DefaultScope
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hordet.datasets.roots import list_metrics
from hordet.engine import runner as runs
from hordet.errors import ReportError
from hordet.evaluation.coco_eval import CocoScores, evaluate_coco
from hordet.evaluation.coco_results import ImageResult
from hordet.evaluation.tide import CONFUSION_SCORE, DetectionErrors, find_errors
from hordet.report.run_folder import RunFolder
from hordet.visualization.panels import (
    Pair,
    get_class_colors,
    make_prediction_panel,
    make_semantic_panels,
    make_truth_panel,
)

SHOWN = 4  # number of worst, of best and of random images


@dataclass
class RunPredictions:
    """Predictions of a run, scored.

    Attributes:
        classes: Names of the classes.
        colors: Colors of the classes, 0 to 1.
        seconds: Mean time to predict an image.
        images: Titles, and truth and prediction of the worst, the best and random images.
        scores: COCO's scores of a detector by 'bbox' and 'segm'.
        errors: Errors of a detector.
        confusion: Pixels (K, K) of a segmentor by true (row) and predicted (column) class.
        summary: Metrics of a segmentor, in percent.
    """

    classes: list[str]
    colors: list[tuple[float, float, float]]
    seconds: float
    images: list[tuple[str, list[Pair]]]
    scores: dict[str, CocoScores] = field(default_factory=dict)
    errors: DetectionErrors | None = None
    confusion: NDArray[np.int64] | None = None
    summary: dict[str, float] = field(default_factory=dict)


def predict_validation_images(folder: RunFolder) -> RunPredictions:
    """Predict the validation images of a run with its checkpoint.

    Args:
        folder: The run, with a checkpoint.

    Raises:
        ReportError: The report does not support the metric of the run, or the config has no
            validation data.
        DatasetError: The images are not where the config says.
    """
    cfg = copy.deepcopy(folder.config)
    metrics = list_metrics(cfg.get("val_evaluator"))
    if not cfg.get("val_dataloader") or not metrics:
        raise ReportError(
            f"{folder.path}: its config has no val_dataloader and val_evaluator, so there is "
            "nothing to predict. Use --no-predictions to report its curves only."
        )
    cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, cfg.get("test_cfg") or {}
    names = {"CocoMetric": "hordet.CocoMetric", "IoUMetric": "hordet.IoUMetric"}
    kind = str(metrics[0]["type"]).rpartition(".")[2]
    if kind not in names:
        raise ReportError(
            f"{folder.path}: predictions are reported for {' and '.join(names)}, and this run has "
            f"{kind}. Use --no-predictions to report its curves only."
        )
    metrics[0]["type"] = names[kind]
    cfg.test_evaluator = metrics[0]
    cfg.log_level = "WARNING"
    cfg.visualizer = None  # what the run logs to is not for its report
    with TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        cfg.work_dir = scratch
        runner = runs.build_test_runner(cfg, folder.checkpoint)
        runner.load_or_resume()
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
            metric = METRICS.build(cfg.test_evaluator)
            metric.dataset_meta = runner.test_dataloader.dataset.metainfo
            seconds = _process_images(runner.model, runner.test_dataloader, metric)
            if kind == "CocoMetric":
                return _score_detections(runner.test_dataloader.dataset, metric, seconds)
            return _score_segmentation(runner, metric, seconds)


def _process_images(model: Any, loader: Any, metric: Any) -> float:
    """Predict all images of a loader for a metric; return the mean seconds for an image."""
    model.eval()
    spent, number = 0.0, 0
    with torch.no_grad():
        for batch in loader:
            start = time.perf_counter()
            samples = model.test_step(batch)
            spent += time.perf_counter() - start
            number += len(samples)
            metric.process(batch, [sample.to_dict() for sample in samples])
    return spent / max(number, 1)


def _choose(quality: dict[Any, float]) -> list[tuple[str, list[Any]]]:
    """Choose the worst, the best, and random others.

    Args:
        quality: The quality of each image, by its key.

    Returns:
        A title and the keys for each group that has images.
    """
    order = sorted(quality, key=lambda key: quality[key])
    number = min(SHOWN, max(1, len(order) // 3))
    worst, best = order[:number], order[number:][-number:][::-1]
    rest = [key for key in order if key not in {*worst, *best}]
    others = random.Random(0).sample(rest, min(number, len(rest)))
    named = (("Worst images", worst), ("Best images", best), ("Random images", others))
    return [(title, keys) for title, keys in named if keys]


def _score_detections(dataset: Any, metric: Any, seconds: float) -> RunPredictions:
    """Score detections."""
    results = {result.image_id: result for _, result in metric.results}
    if metric._coco_api is None:
        raise ReportError("the val_evaluator has no ann_file; set it, or use --no-predictions")
    truth = metric._coco_api.dataset
    categories = sorted(metric._coco_api.get_cat_ids(cat_names=dataset.metainfo["classes"]))
    kinds = [kind for kind in metric.metrics if kind in ("bbox", "segm")]
    scores = {
        kind: evaluate_coco(
            truth,
            list(results.values()),
            kind,
            category_ids=categories,
            max_detections=metric.proposal_nums,
        )
        for kind in kinds
    }
    errors = find_errors(truth, list(results.values()), categories, kinds[-1])
    names = {item["id"]: item["name"] for item in truth["categories"]}
    order = list(dataset.metainfo["classes"])
    labels = {category: order.index(names[category]) for category in categories}
    indices = {dataset.get_data_info(i)["img_id"]: i for i in range(len(dataset))}
    quality = {key: value for key, value in errors.quality.items() if key in indices}
    images = [
        (title, [_make_pair(dataset, indices[key], results.get(key), labels) for key in keys])
        for title, keys in _choose(quality)
    ]
    classes = [names[category] for category in categories]
    return RunPredictions(
        classes,
        get_class_colors(dataset.metainfo)[1],
        seconds,
        images,
        scores=scores,
        errors=errors,
    )


def _make_pair(
    dataset: Any, index: int, result: ImageResult | None, labels: dict[int, int]
) -> Pair:
    """Return truth and detections of an image as panels.

    Args:
        dataset: Data set of mmdet.
        index: Number of the image in it.
        result: Detections of the image, if there are any.
        labels: Label of each category id.
    """
    info = dataset.get_data_info(index)
    size = (info["height"], info["width"])
    found = InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    if result is not None and len(result.scores):
        boxes = torch.from_numpy(result.boxes.copy())
        boxes[:, 2:] += boxes[:, :2]
        found = InstanceData(
            bboxes=boxes,
            scores=torch.as_tensor(np.asarray(result.scores)),
            labels=torch.tensor([labels[key] for key in result.categories.tolist()]),
        )
        if result.masks is not None:
            dense = coco_mask.decode(result.get_run_lengths()).transpose(2, 0, 1)
            found.masks = torch.from_numpy(np.ascontiguousarray(dense))
    truth = make_truth_panel(info, size)
    return Pair(index, info["img_path"], truth, make_prediction_panel(found, CONFUSION_SCORE))


def _score_segmentation(runner: Any, metric: Any, seconds: float) -> RunPredictions:
    """Score label maps."""
    dataset = runner.test_dataloader.dataset
    classes, colors = get_class_colors(dataset.metainfo)
    quality = {}
    for name, (places, counts, _) in metric.results:
        right = counts[places % (len(classes) + 1) == 0].sum()
        quality[name] = float(right / max(counts.sum(), 1))
    results, metric.results = metric.results, []
    summary = metric.compute_metrics(results)
    indices = {dataset.get_data_info(i)["img_path"]: i for i in range(len(dataset))}
    images = []
    for title, keys in _choose(quality):
        pairs = []
        for key in keys:
            item = dataset[indices[key]]
            batch = {name: [value] for name, value in item.items()}
            with torch.no_grad():
                sample = runner.model.test_step(batch)[0]
            pairs.append(Pair(indices[key], key, *make_semantic_panels(sample)))
        images.append((title, pairs))
    return RunPredictions(
        classes, colors, seconds, images, confusion=metric.confusion, summary=summary
    )
