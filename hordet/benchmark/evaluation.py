"""Time and memory of the COCO evaluation compared with pycocotools, on random predictions.

Each runs from dense masks to the twelve metrics in a process of its own. pycocotools is used as in
mmdet: each mask is copied to column order and encoded, and results are a list of dicts for
`loadRes`.
"""

import contextlib
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from hordet.benchmark.table import TableRow, format_table
from hordet.evaluation.coco_eval import evaluate_coco
from hordet.evaluation.coco_results import ImageResult, encode_masks

SIZE = (480, 640)
CATEGORIES = 80
HEADER = (
    "",
    "pycocotools",
    "hordet",
    "times faster",
    "pycocotools",
    "hordet",
    "share of memory",
    "largest difference",
)
SHAPES = 150  # masks that are drawn once and used many times: 46 MB


@dataclass(frozen=True)
class EvaluationRow(TableRow):
    """One measurement.

    Attributes:
        kind: 'bbox' or 'segm'.
        seconds: Processor time of pycocotools and of hordet, from dense masks to metrics, summed
            over threads; other programs on the machine do not count.
        megabytes: Peak memory of the two, above that of the masks and imported libraries.
        difference: Largest absolute difference of the twelve metrics and every category's AP.
    """

    kind: str
    seconds: tuple[float, float]
    megabytes: tuple[float, float]
    difference: float


def measure_coco_evaluation(images: int, detections: int) -> list[EvaluationRow]:
    """Measure pycocotools and hordet on boxes and on masks, one after the other.

    Args:
        images: Number of images.
        detections: Number of detections in each image.
    """
    rows = []
    for kind in ("bbox", "segm"):
        old, new = (
            _run_in_process(way, kind, images, detections)
            for way in (_run_pycocotools, _run_hordet)
        )
        difference = np.abs(np.array(old[2]) - np.array(new[2]))
        both = (np.isnan(old[2]) & np.isnan(new[2])) | (difference <= 1)
        worst = float(np.nanmax(difference)) if both.all() else float("inf")
        rows.append(EvaluationRow(kind, (old[0], new[0]), (old[1], new[1]), worst))
    return rows


def format_evaluation_table(rows: list[EvaluationRow]) -> str:
    """Return the table of the measurements."""
    lines: list[Sequence[str]] = [HEADER, ["---"] + ["---:"] * (len(HEADER) - 1)]
    for row in rows:
        (old, new), (large, small) = row.seconds, row.megabytes
        name = {"bbox": "boxes", "segm": "masks"}[row.kind]
        times = [f"{old:.1f} s", f"{new:.1f} s", f"{old / new:.1f}"]
        memory = [f"{large:.0f} MB", f"{small:.0f} MB", f"{small / large:.2f}"]
        lines.append([name, *times, *memory, f"{row.difference:.0e}"])
    return "\n".join(format_table(*lines)) + "\n"


class _RandomData:
    """Random truth and predictions, the same in every process."""

    def __init__(self, images: int, detections: int) -> None:
        self.count, self.detections = images, detections
        draw = np.random.default_rng(0)
        self.masks = np.stack([self._draw_ellipse(draw) for _ in range(SHAPES)])
        self.rles = [
            coco_mask.encode(np.asfortranarray(mask.view(np.uint8))) for mask in self.masks
        ]
        self.boxes = np.array([coco_mask.toBbox(rle) for rle in self.rles])

    @staticmethod
    def _draw_ellipse(draw: np.random.Generator) -> NDArray[np.bool_]:
        mask = np.zeros(SIZE, np.uint8)
        axes = np.exp(draw.uniform(np.log(5), np.log(120), 2)).astype(int)
        center = draw.integers(20, SIZE[1] - 20), draw.integers(20, SIZE[0] - 20)
        turn = float(draw.uniform(0, 180))
        cv2.ellipse(mask, tuple(map(int, center)), tuple(map(int, axes)), turn, 0, 360, 1, -1)
        return mask.astype(bool)

    def draw_image(self, index: int) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Return shapes and labels of the truth; shapes, labels and scores of the predictions."""
        draw = np.random.default_rng(index + 1)
        number = min(int(draw.integers(3, 16)), self.detections)
        true, labels = draw.integers(0, SHAPES, number), draw.integers(0, CATEGORIES, number)
        more = self.detections - number
        found = np.concatenate([true, draw.integers(0, SHAPES, more)])
        guesses = np.concatenate([labels, draw.integers(0, CATEGORIES, more)])
        return true, labels, found, guesses, draw.random(self.detections, dtype=np.float32)

    def yield_predictions(
        self, with_masks: bool
    ) -> Iterator[tuple[int, NDArray, NDArray, NDArray, NDArray | None]]:
        """Yield id, boxes, labels, scores and, if asked, dense masks of each image."""
        for index in range(self.count):
            _, _, found, labels, scores = self.draw_image(index)
            noise = np.random.default_rng(index).normal(0, 2, (self.detections, 4))
            masks = self.masks[found] if with_masks else None
            yield index + 1, self.boxes[found] + noise, labels, scores, masks

    def write_truth(self, path: Path) -> None:
        """Write the annotation file."""
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(self.count):
            name = f"{index}.png"
            entries.append(dict(id=index + 1, file_name=name, height=SIZE[0], width=SIZE[1]))
            true, labels, *_ = self.draw_image(index)
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


def _run_in_process(way: Callable, kind: str, images: int, detections: int) -> Any:
    """Run one of the two in a new process; return seconds, megabytes and metrics."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (way, kind, images, detections))


def _measure(way: Callable, kind: str, images: int, detections: int) -> tuple:
    drawn = _RandomData(images, detections)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        drawn.write_truth(path)
        before = read_resident_memory("VmRSS")
        seconds, metrics = way(drawn, path, kind)
    return seconds, (read_resident_memory("VmHWM") - before) / 2**20, metrics


def _run_pycocotools(drawn: _RandomData, path: Path, kind: str) -> tuple[float, list[float]]:
    """Evaluate by pycocotools; return seconds and metrics."""
    results: list[dict[str, Any]] = []
    seconds = 0.0
    for image_id, boxes, labels, scores, masks in drawn.yield_predictions(kind == "segm"):
        start = time.process_time()
        for i, label in enumerate(labels):
            item = dict(image_id=image_id, category_id=int(label) + 1, score=float(scores[i]))
            if kind == "bbox":
                item["bbox"] = boxes[i].tolist()
            else:
                assert masks is not None  # for 'segm' they are drawn
                column = np.array(masks[i][:, :, np.newaxis], order="F", dtype=np.uint8)
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
    return seconds, [*evaluation.stats.tolist(), *_compute_category_ap(precision)]


def _run_hordet(drawn: _RandomData, path: Path, kind: str) -> tuple[float, list[float]]:
    """Evaluate by hordet; return seconds and metrics."""
    results: list[ImageResult] = []
    seconds = 0.0
    for image_id, boxes, labels, scores, masks in drawn.yield_predictions(kind == "segm"):
        start = time.process_time()
        result = ImageResult(image_id, SIZE, boxes, scores, labels + 1)
        if kind == "segm":
            result.masks = encode_masks(masks, SIZE, image_id)
        result.check()
        results.append(result)
        seconds += time.process_time() - start
    start = time.process_time()
    found = evaluate_coco(json.loads(path.read_bytes()), results, kind)
    seconds += time.process_time() - start
    return seconds, [
        *found.stats.tolist(),
        *_compute_category_ap(found.precision[:, :, :, 0, -1]),
    ]


def _compute_category_ap(precision: NDArray[np.float64]) -> list[float]:
    """Return the AP of each category from its precisions (T, R, K)."""
    columns = (precision[:, :, k] for k in range(precision.shape[2]))
    return [float(c[c > -1].mean()) if (c > -1).any() else float("nan") for c in columns]
