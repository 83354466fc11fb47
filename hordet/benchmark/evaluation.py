"""How much faster and smaller the COCO evaluation is than pycocotools, on drawn predictions.

From dense masks to the twelve figures, each way in a process of its own. pycocotools is used as
mmdet uses it: each mask copied to column order and encoded, results as a list of dicts, `loadRes`.
"""

import contextlib
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hordet.benchmark.memory import read_resident_memory
from hordet.evaluation.coco_eval import evaluate_coco
from hordet.evaluation.coco_results import ImageResult, encode_masks

SIZE = (480, 640)
CATEGORIES = 80
SHAPES = 150  # drawn once and used again: 46 MB of dense masks


@dataclass
class EvaluationRow:
    """One measurement.

    Attributes:
        kind: 'bbox' or 'segm'.
        seconds: Of processor time by pycocotools and by hordet, from dense masks to figures; a busy
            machine does not disturb it, and threads count in full.
        megabytes: Peak memory of the two, above that of the drawn shapes and imported libraries.
        difference: Largest absolute difference over the twelve figures and every category's AP.
    """

    kind: str
    seconds: tuple[float, float]
    megabytes: tuple[float, float]
    difference: float

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return asdict(self)


def measure(images: int, detections: int) -> list[EvaluationRow]:
    """Measure boxes and masks both ways, one after the other.

    Args:
        images: Number of images.
        detections: Number of detections an image.
    """
    rows = []
    for kind in ("bbox", "segm"):
        old, new = (_in_a_process(way, kind, images, detections) for way in (_old, _new))
        difference = np.abs(np.array(old[2]) - np.array(new[2]))
        both = (np.isnan(old[2]) & np.isnan(new[2])) | (difference <= 1)
        worst = float(np.nanmax(difference)) if both.all() else float("inf")
        rows.append(EvaluationRow(kind, (old[0], new[0]), (old[1], new[1]), worst))
    return rows


def format_markdown(rows: list[EvaluationRow]) -> str:
    """Return the table of the measurements."""
    lines = [
        "| | pycocotools | hordet | times faster | pycocotools | hordet | share of memory "
        "| largest difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        (old, new), (large, small) = row.seconds, row.megabytes
        name = {"bbox": "boxes", "segm": "masks"}[row.kind]
        lines.append(
            f"| {name} | {old:.1f} s | {new:.1f} s | {old / new:.1f} | {large:.0f} MB "
            f"| {small:.0f} MB | {small / large:.2f} | {row.difference:.0e} |"
        )
    return "\n".join(lines) + "\n"


class _Drawn:
    """Truth and predictions, the same in every process."""

    def __init__(self, images: int, detections: int) -> None:
        self.count, self.detections = images, detections
        draw = np.random.default_rng(0)
        self.masks = np.stack([self._ellipse(draw) for _ in range(SHAPES)])
        self.rles = [
            coco_mask.encode(np.asfortranarray(mask.view(np.uint8))) for mask in self.masks
        ]
        self.boxes = np.array([coco_mask.toBbox(rle) for rle in self.rles])

    @staticmethod
    def _ellipse(draw: np.random.Generator) -> NDArray[np.bool_]:
        mask = np.zeros(SIZE, np.uint8)
        axes = np.exp(draw.uniform(np.log(5), np.log(120), 2)).astype(int)
        center = draw.integers(20, SIZE[1] - 20), draw.integers(20, SIZE[0] - 20)
        turn = float(draw.uniform(0, 180))
        cv2.ellipse(mask, tuple(map(int, center)), tuple(map(int, axes)), turn, 0, 360, 1, -1)
        return mask.astype(bool)

    def image(self, index: int) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Return shapes and labels of the truth; shapes, labels and scores of the predictions."""
        draw = np.random.default_rng(index + 1)
        number = min(int(draw.integers(3, 16)), self.detections)
        true, labels = draw.integers(0, SHAPES, number), draw.integers(0, CATEGORIES, number)
        more = self.detections - number
        found = np.concatenate([true, draw.integers(0, SHAPES, more)])
        guesses = np.concatenate([labels, draw.integers(0, CATEGORIES, more)])
        return true, labels, found, guesses, draw.random(self.detections, dtype=np.float32)

    def predictions(
        self, with_masks: bool
    ) -> Iterator[tuple[int, NDArray, NDArray, NDArray, NDArray | None]]:
        """Yield id, boxes, labels, scores and, if asked, dense masks of each image."""
        for index in range(self.count):
            _, _, found, labels, scores = self.image(index)
            noise = np.random.default_rng(index).normal(0, 2, (self.detections, 4))
            masks = self.masks[found] if with_masks else None
            yield index + 1, self.boxes[found] + noise, labels, scores, masks

    def write_truth(self, path: Path) -> None:
        """Write the annotation file."""
        entries, annotations = [], []
        for index in range(self.count):
            name = f"{index}.png"
            entries.append(dict(id=index + 1, file_name=name, height=SIZE[0], width=SIZE[1]))
            true, labels, *_ = self.image(index)
            for shape, label in zip(true.tolist(), labels.tolist(), strict=True):
                rle = self.rles[shape]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index + 1,
                        category_id=label + 1,
                        bbox=self.boxes[shape].tolist(),
                        area=float(coco_mask.area(rle)),
                        iscrowd=int(len(annotations) % 50 == 7),
                        segmentation=dict(size=list(SIZE), counts=rle["counts"].decode()),
                    )
                )
        categories = [dict(id=k + 1, name=f"category {k}") for k in range(CATEGORIES)]
        truth = dict(images=entries, annotations=annotations, categories=categories)
        path.write_text(json.dumps(truth))


def _in_a_process(way: Callable, kind: str, images: int, detections: int) -> Any:
    """Run one way in a fresh process; return seconds, megabytes and figures."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed, (way, kind, images, detections))


def _timed(way: Callable, kind: str, images: int, detections: int) -> tuple:
    drawn = _Drawn(images, detections)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        drawn.write_truth(path)
        before = read_resident_memory("VmRSS")
        seconds, figures = way(drawn, path, kind)
    return seconds, (read_resident_memory("VmHWM") - before) / 2**20, figures


def _old(drawn: _Drawn, path: Path, kind: str) -> tuple[float, list[float]]:
    """Go pycocotools' way."""
    results: list[dict[str, Any]] = []
    seconds = 0.0
    for image_id, boxes, labels, scores, masks in drawn.predictions(kind == "segm"):
        start = time.process_time()
        for i, label in enumerate(labels):
            item = dict(image_id=image_id, category_id=int(label) + 1, score=float(scores[i]))
            if kind == "bbox":
                item["bbox"] = boxes[i].tolist()
            else:
                column = np.array(masks[i][:, :, np.newaxis], order="F", dtype="uint8")
                item["segmentation"] = coco_mask.encode(column)[0]
            results.append(item)
        seconds += time.process_time() - start
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    seconds += time.process_time() - start
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return seconds, [*evaluation.stats.tolist(), *_by_category(precision)]


def _new(drawn: _Drawn, path: Path, kind: str) -> tuple[float, list[float]]:
    """Go hordet's way."""
    results: list[ImageResult] = []
    seconds = 0.0
    for image_id, boxes, labels, scores, masks in drawn.predictions(kind == "segm"):
        start = time.process_time()
        result = ImageResult(image_id, SIZE, boxes, scores, labels + 1)
        if kind == "segm":
            result.masks = encode_masks(masks, SIZE, image_id)
        result.check()
        results.append(result)
        seconds += time.process_time() - start
    start = time.process_time()
    figures = evaluate_coco(json.loads(path.read_bytes()), results, kind)
    seconds += time.process_time() - start
    return seconds, [*figures.stats.tolist(), *_by_category(figures.precision[:, :, :, 0, -1])]


def _by_category(precision: NDArray[np.float64]) -> list[float]:
    """Return the AP of each category from its precisions (T, R, K)."""
    columns = (precision[:, :, k] for k in range(precision.shape[2]))
    return [float(c[c > -1].mean()) if (c > -1).any() else float("nan") for c in columns]
