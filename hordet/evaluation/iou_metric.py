"""mIoU, aAcc, mAcc and boundary IoU, counted in integers, with mmseg's options and results."""

import sys
from collections.abc import Sequence
from typing import Any

import cv2
import mmseg.evaluation
import numpy as np
import torch
from mmengine.logging import MMLogger
from numpy.typing import NDArray
from torch import Tensor

from hordet.errors import EvaluationError
from hordet.registry import METRICS

BOUNDARY = "mBoundaryIoU"


@METRICS.register_module()
class IoUMetric(mmseg.evaluation.IoUMetric):
    """mmseg's IoUMetric, computed from one confusion matrix of integers.

    mmseg sums pixels in single precision, which loses pixels from 2^24 on (60 images of ADE20K).
    Each image counts once, even if padded samplers of several processes repeat it.

    After an evaluation, `confusion` is the matrix (K, K): rows are true classes, columns predicted.

    Args:
        iou_metrics: 'mIoU', 'mDice', 'mFscore', and 'mBoundaryIoU': the IoU of the pixels of each
            class within `boundary_ratio` of its border (Cheng et al., Boundary IoU, CVPR 2021,
            section 4), summed over images as for mIoU.
        boundary_ratio: Width of that border as a share of the image's diagonal.
        **options: The other options of mmseg's IoUMetric.
    """

    def __init__(
        self,
        iou_metrics: Sequence[str] | str = ("mIoU",),
        boundary_ratio: float = 0.02,
        **options: Any,
    ) -> None:
        """Check the options."""
        asked = [iou_metrics] if isinstance(iou_metrics, str) else list(iou_metrics)
        allowed = ("mIoU", "mDice", "mFscore", BOUNDARY)
        if set(asked) - set(allowed):
            raise ValueError(f"iou_metrics is {asked}; it may have {', '.join(allowed)}")
        super().__init__(iou_metrics=[name for name in asked if name != BOUNDARY], **options)
        self.with_boundary = BOUNDARY in asked
        self.boundary_ratio = boundary_ratio
        self.confusion: NDArray[np.int64] | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch, and write its label maps if `output_dir` is set.

        Args:
            data_batch: Not used.
            data_samples: Data samples of mmseg, as dicts.

        Raises:
            EvaluationError: Truth and prediction differ in size, or a label is not a class.
        """
        for sample in data_samples:
            before = len(self.results)
            try:
                super().process(data_batch, [sample])
            except EvaluationError as error:
                raise EvaluationError(f"{sample.get('img_path')}: {error}") from error
            # A sample without a path counts as an image of its own.
            name = sample.get("img_path") or object()
            self.results[before:] = [(name, counts) for counts in self.results[before:]]

    def intersect_and_union(
        self, pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[Any, ...]:
        """Return what an image adds to the confusion matrix and to the boundary counts.

        Args:
            pred_label: Predicted classes (H, W).
            label: True classes (H, W).
            num_classes: K.
            ignore_index: True label of pixels that do not count.

        Returns:
            Flat indices of the matrix's nonzero entries, their values, and for each class the
            boundary pixels (2, K) of intersection and union, or None without boundary IoU.
        """
        matrix = compute_confusion_matrix(pred_label, label, num_classes, ignore_index).ravel()
        places = np.flatnonzero(matrix)
        edges = None
        if self.with_boundary:
            predicted, true = pred_label.cpu().numpy(), label.cpu().numpy()
            edges = compute_boundary_areas(
                predicted, true, num_classes, ignore_index, self.boundary_ratio
            )
        return places.astype(np.uint32), matrix[places], edges

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the counts of all processes and score them.

        Args:
            size: Number of images; not used, because each image counts once.
        """
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score the counts of all images.

        Args:
            results: Results of `process`; images may be repeated.

        Returns:
            aAcc, mIoU, mAcc and the other metrics asked for, in percent, rounded to 0.01 as in
            mmseg.
        """
        if self.format_only:
            return super().compute_metrics(results)
        classes = self.dataset_meta["classes"]
        images = dict(reversed(results)).values()
        matrix = np.zeros(len(classes) ** 2, dtype=np.int64)
        for places, counts, _ in images:
            matrix[places] += counts
        self.confusion = matrix.reshape(len(classes), -1)
        right = self.confusion.diagonal()
        true, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        areas = (right, true + predicted - right, predicted, true)
        # Double precision holds these integers exactly.
        found = super().compute_metrics(
            [tuple(torch.tensor(a, dtype=torch.float64) for a in areas)]
        )
        if self.with_boundary:
            shared, either = sum(edges for _, _, edges in images)
            with np.errstate(invalid="ignore"):
                overlap = 100 * shared / either
            from prettytable import PrettyTable  # 0.3 s, and few runs ask for it

            table = PrettyTable(["Class", "BoundaryIoU"])
            table.add_rows([[n, f"{v:.2f}"] for n, v in zip(classes, overlap, strict=True)])
            MMLogger.get_current_instance().info("\n" + table.get_string())
            found[BOUNDARY] = float(np.round(np.nanmean(overlap), 2))
        return found


def compute_confusion_matrix(
    predicted: Tensor, true: Tensor, num_classes: int, ignore_index: int
) -> NDArray[np.int64]:
    """Count the pixels of an image by true (row) and predicted (column) class.

    Args:
        predicted: Predicted classes (H, W).
        true: True classes (H, W).
        num_classes: K.
        ignore_index: True label of pixels that do not count.

    Returns:
        The matrix (K, K).

    Raises:
        EvaluationError: The maps differ in size, or a label is not a class.
    """
    if predicted.shape != true.shape:
        raise EvaluationError(
            f"the prediction is {tuple(predicted.shape)} and the truth {tuple(true.shape)}. Load "
            "annotations after the last resize of the test pipeline, not before it."
        )
    counted = true != ignore_index
    predicted, true = predicted[counted].long(), true[counted].long()
    for name, labels in (("predicted", predicted), ("true", true)):
        if labels.numel() and not 0 <= labels.min() <= labels.max() < num_classes:
            raise EvaluationError(
                f"a {name} label is {max(labels.max().item(), -labels.min().item())}, but there "
                f"are {num_classes} classes (labels 0 to {num_classes - 1}; {ignore_index} does "
                "not count). Correct num_classes of the head, reduce_zero_label or the label maps."
            )
    counts = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.cpu().numpy().reshape(num_classes, num_classes)


def compute_boundary_areas(
    predicted: NDArray[np.integer],
    true: NDArray[np.integer],
    num_classes: int,
    ignore_index: int,
    ratio: float,
) -> NDArray[np.int64]:
    """Count the pixels near the borders of each class.

    Args:
        predicted: Predicted classes (H, W).
        true: True classes (H, W).
        num_classes: K.
        ignore_index: True label of pixels that do not count.
        ratio: Width of the border as a share of the diagonal.

    Returns:
        Pixels (2, K): row 0 counts pixels in both boundaries, row 1 pixels in either.
    """
    width = max(1, round(ratio * float(np.hypot(*true.shape))))
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    counted = true != ignore_index
    areas = np.zeros((2, num_classes), dtype=np.int64)
    present = set(np.unique(true[counted]).tolist()) | set(np.unique(predicted[counted]).tolist())
    for label in present:
        edges = []
        for labels in (predicted, true):
            mask = (labels == label).astype(np.uint8)
            # The border of the image counts as a border of the mask.
            inner = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            edges.append((mask > inner) & counted)
        areas[:, label] = (edges[0] & edges[1]).sum(), (edges[0] | edges[1]).sum()
    return areas
