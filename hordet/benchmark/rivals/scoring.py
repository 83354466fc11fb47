"""One scorer for all rivals: pycocotools on written objects, hordet's mIoU on written label maps.

What a rival wrote is checked first: of other images, another size or another form, it is refused.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from hordet.errors import EvaluationError, list_first
from hordet.evaluation.coco_eval import evaluate_coco
from hordet.evaluation.coco_results import read_results, read_truth
from hordet.evaluation.headline import select_headline
from hordet.evaluation.iou_metric import IoUMetric

PREDICTIONS, MAPS, SUMMARY = "predictions.json", "maps", "summary.json"
# Of `summary.json`; see `hordet.benchmark.rivals.programs.protocol.write_summary`.
NUMBERS = ("parameters", "train_seconds", "iterations", "milliseconds", "peak_memory")


def read_summary(out: Path) -> dict[str, Any]:
    """Return the summary that a rival wrote.

    Args:
        out: The rival's `--out`.

    Raises:
        EvaluationError: It is not there, or lacks a number.
    """
    path = out / SUMMARY
    try:
        summary = json.loads(path.read_text())
        # What is more than these is not kept.
        kept = {name: summary[name] for name in (*NUMBERS, "version")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{path} is no summary ({type(error).__name__}: {error}); a rival must write "
            f"{', '.join(NUMBERS)} and version"
        ) from error
    for name in NUMBERS:
        value = kept[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
            raise EvaluationError(f"{path} has {name}={value!r}; it must be a number above 0")
    return kept


def score_objects(data: Path, out: Path) -> dict[str, float]:
    """Score boxes and masks by pycocotools: box AP, box AP50, mask AP, mask AP50, from 0 to 1.

    Args:
        data: Folder of the data.
        out: The rival's `--out`.

    Raises:
        EvaluationError: The predictions are not there, of another form, or of other images.
    """
    path = out / PREDICTIONS
    metrics: dict[str, float] = {}
    if not path.is_file():
        raise EvaluationError(f"there is no {path}; a rival must write it")
    for kind in ("bbox", "segm"):
        truth = read_truth(data / "annotations" / "instances_val.json", kind)
        results = read_results(path, truth, kind)
        stats = evaluate_coco(truth, results, kind, backend="pycocotools").stats
        metrics |= {f"{kind}_mAP": float(stats[0]), f"{kind}_mAP_50": float(stats[1])}
    return select_headline(metrics)


def score_maps(data: Path, out: Path) -> dict[str, float]:
    """Score label maps: mIoU, aAcc and mAcc, from 0 to 1.

    Args:
        data: Folder of the data.
        out: The rival's `--out`.

    Raises:
        EvaluationError: A map lacks or is too many, cannot be read, has another size, or labels
            that are no classes.
    """
    meta = json.loads((data / "meta.json").read_text())
    true = {path.stem: path for path in (data / "annotations" / "val").iterdir()}
    found = {path.stem: path for path in (out / MAPS).glob("*.png")}
    for names, words in (
        (sorted(true.keys() - found.keys()), "lacks the maps of"),
        (sorted(found.keys() - true.keys()), "has maps of images that are not validated,"),
    ):
        if names:
            raise EvaluationError(
                f"{out / MAPS} {words} {list_first(names)}; a rival must write one PNG for each of "
                f"the {len(true)} validation images"
            )
    metric = IoUMetric(ignore_index=meta["ignore_index"])
    metric.dataset_meta = dict(classes=tuple(meta["classes"]))
    for name, path in sorted(true.items()):
        predicted, labels = _read_map(found[name]), _read_map(path)
        sample = dict(
            pred_sem_seg=dict(data=torch.from_numpy(predicted)),
            gt_sem_seg=dict(data=torch.from_numpy(labels)),
            img_path=str(found[name]),
        )
        metric.process({}, [sample])
    return select_headline(metric.evaluate(len(true)))


def _read_map(path: Path) -> np.ndarray:
    """Return a label map (H, W) of int64.

    Raises:
        EvaluationError: It is no image of one channel.
    """
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2:
        raise EvaluationError(f"{path} is no PNG of one channel; write label maps so")
    return labels.astype(np.int64)


SCORERS = {"objects": score_objects, "maps": score_maps}
