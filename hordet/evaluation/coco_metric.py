"""COCO's average precision as a metric of mmengine: mmdet's options, faster and in less memory."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mmdet.evaluation
import numpy as np
import torch
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import MessageHub, MMLogger
from torch import Tensor

from hordet.errors import EvaluationError
from hordet.evaluation.coco_eval import BACKENDS, CocoScores, evaluate_coco, sort_ids
from hordet.evaluation.coco_results import ImageResult, check_ids, encode_masks, write_results
from hordet.registry import METRICS

# The places of mmdet's names among COCO's twelve metrics.
_PLACES = {"mAP": 0, "mAP_50": 1, "mAP_75": 2, "mAP_s": 3, "mAP_m": 4, "mAP_l": 5}
_RECALLS = ("AR@{0}", "AR@{1}", "AR@{2}", "AR_s@{2}", "AR_m@{2}", "AR_l@{2}")


@METRICS.register_module()
class CocoMetric(mmdet.evaluation.CocoMetric):
    """mmdet's CocoMetric with the same metrics, several times faster.

    Masks are encoded as run lengths batch by batch, so only encoded results are kept in memory.
    Results of several processes may come in any order and repeat images, as padded samplers do:
    each image counts once. The metrics are not rounded. Where nothing is detected, average
    precision is 0, and `nothing_detected` in the message hub is True. All average precisions are at
    the largest of `proposal_nums` (1000); mmdet gives `mAP` at the first (100) and `mAP_50` at the
    last. Ids of images, objects and categories may be any numbers or texts.

    Args:
        backend: 'faster-coco-eval' or 'pycocotools'. Both give the same metrics.
        **options: The options of mmdet's CocoMetric.
    """

    # mmdet's COCO, which has no type annotations; None until there is an annotation file.
    _coco_api: Any
    # Category ids by label; None until they are read from the annotation file.
    cat_ids: list[int] | None

    def __init__(self, backend: str = "faster-coco-eval", **options: Any) -> None:
        """Read the annotation file, if one is given."""
        if backend not in BACKENDS:
            raise ValueError(f"backend is {backend!r}; it must be one of {', '.join(BACKENDS)}")
        super().__init__(**options)
        self.backend = backend
        if "proposal_fast" in self.metrics:  # mmdet's code for it fails with numpy 2
            raise ValueError(
                "metric 'proposal_fast' is not offered; 'proposal' gives the recall of boxes of "
                "any category, by COCO's rules"
            )
        unknown = set(self.metric_items or ()) - {*self._places}
        if unknown:
            raise ValueError(
                f"metric_items has {', '.join(sorted(unknown))}; it may have "
                f"{', '.join(self._places)}"
            )

    @property
    def _places(self) -> dict[str, int]:
        recalls = (name.format(*self.proposal_nums) for name in _RECALLS)
        return _PLACES | {name: 6 + i for i, name in enumerate(recalls)}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Encode the predictions of a batch.

        Args:
            data_batch: Not used.
            data_samples: Data samples of mmdet, as dicts.

        Raises:
            EvaluationError: Scores or boxes are not finite, masks do not have the size of their
                image, or the annotation file lacks the image or the category.
        """
        for sample in data_samples:
            predicted = sample["pred_instances"]
            arrays = {
                key: _to_numpy(predicted[key])
                for key in ("bboxes", "scores", "labels", "mask_scores")
                if key in predicted
            }
            image_id, size = sample["img_id"], tuple(sample["ori_shape"][:2])
            boxes = arrays["bboxes"].astype(np.float64)
            boxes[:, 2:] -= boxes[:, :2]
            result = ImageResult(
                image_id,
                self._get_size(image_id, size),
                boxes,
                arrays["scores"],
                self._get_categories(arrays["labels"], image_id),
                mask_scores=arrays.get("mask_scores"),
            )
            if "masks" in predicted:
                result.masks = encode_masks(predicted["masks"], result.size, image_id)
            result.check()
            truth = None
            if self._coco_api is None:
                truth = {
                    "img_id": image_id,
                    "height": size[0],
                    "width": size[1],
                    "anns": sample["instances"],
                }
            self.results.append((truth, result))

    def _get_size(self, image_id: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of an image by the annotation file, or `size` without a file."""
        if self._coco_api is None:
            return size
        check_ids([image_id], self._coco_api.imgs)
        image = self._coco_api.imgs[image_id]
        return image["height"], image["width"]

    def _get_categories(self, labels: np.ndarray, image_id: int) -> np.ndarray:
        """Return the category ids of labels."""
        classes = self.dataset_meta["classes"]
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise EvaluationError(
                f"image {image_id}: a predicted label is {labels.max()}, but the data set has "
                f"{len(classes)} classes (labels 0 to {len(classes) - 1}). Set num_classes of the "
                "heads to their number."
            )
        if self._coco_api is None:  # the file made from the samples has labels as category ids
            return labels
        if self.cat_ids is None:
            self.cat_ids = self._coco_api.get_cat_ids(cat_names=classes)
            if len(self.cat_ids) != len(classes):
                raise EvaluationError(
                    f"the data set has {len(classes)} classes and the annotation file has "
                    f"categories for {len(self.cat_ids)} of them. Give both the same names."
                )
        return np.asarray(self.cat_ids)[labels]

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the results of all processes and score them.

        Args:
            size: Number of images. It is not used: mmengine would keep only the first `size` of
                the gathered results, and lose images. Here each image counts once instead.

        Returns:
            The metrics, by name.
        """
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score the results of all images.

        Args:
            results: Results of `process` in any order; images may be repeated.

        Returns:
            Metrics such as `bbox_mAP`, 0 to 1; -1 without true objects.
        """
        logger = MMLogger.get_current_instance()
        images = {result.image_id: (truth, result) for truth, result in reversed(results)}
        order = sort_ids(images)
        detections = [images[key][1] for key in order]
        if self._coco_api is None:
            with TemporaryDirectory() as folder:
                made = [images[key][0] for key in order]
                self._coco_api = COCO(self.gt_to_coco_json(made, f"{folder}/made"))
            self.cat_ids = self._coco_api.get_cat_ids()
        self.img_ids = self._coco_api.get_img_ids()
        if self.cat_ids is None:
            self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta["classes"])
        if self.outfile_prefix:
            self._write_results(detections)
        if self.format_only:
            logger.info(f"results are saved in {Path(self.outfile_prefix).parent}")
            return {}
        found: dict[str, float] = {}
        for kind in self.metrics:
            logger.info(f"Evaluating {kind}...")
            found |= self._score(kind, detections, logger)
        nothing = not any(len(result.scores) for result in detections)
        MessageHub.get_current_instance().update_info("nothing_detected", nothing)
        if nothing:
            logger.warning(
                "Nothing was detected in any image, so average precision is 0. Early in training "
                "that is common; later, look at the loss, and at score_thr of test_cfg."
            )
        return found

    def _write_results(self, detections: list[ImageResult]) -> None:
        """Write COCO's result files."""
        write_results(f"{self.outfile_prefix}.bbox.json", detections, "bbox")
        if any(result.masks is not None for result in detections):
            write_results(f"{self.outfile_prefix}.segm.json", detections, "segm")

    def _score(
        self, kind: str, detections: list[ImageResult], logger: MMLogger
    ) -> dict[str, float]:
        """Score boxes, masks, or boxes of any category ('proposal')."""
        if kind == "segm" and any(
            result.masks is None and len(result.scores) for result in detections
        ):
            raise EvaluationError(
                "metric 'segm' needs masks, and the model predicts none. Give the model a mask "
                "head, or set metric=['bbox'] of the evaluator."
            )
        scores = evaluate_coco(
            self._coco_api.dataset,
            detections,
            "segm" if kind == "segm" else "bbox",
            category_ids=self.cat_ids,
            max_detections=self.proposal_nums,
            iou_thresholds=self.iou_thrs,
            use_categories=kind != "proposal",
            backend=self.backend,
        )
        logger.info("\n" + scores.summary)
        if scores.caution:
            logger.warning(scores.caution)
        begin, items = f"{kind}_", list(_PLACES)
        if kind == "proposal":
            begin, items = "", list(self._places)[6:]
        chosen = self.metric_items or items
        found = {begin + item: float(scores.stats[self._places[item]]) for item in chosen}
        if self.classwise and kind != "proposal":
            found |= self._score_categories(kind, scores, logger)
        return found

    def _score_categories(
        self, kind: str, scores: CocoScores, logger: MMLogger
    ) -> dict[str, float]:
        """Log the table of categories; return each one's average precision."""
        from prettytable import PrettyTable  # 0.3 s, and few runs ask for it

        table = PrettyTable(["category", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR"])
        found = {}
        for index, category in enumerate(scores.categories):
            name = self._coco_api.cats[category]["name"]
            row = scores.summarize_category(index)
            table.add_row([name, *(f"{value:.3f}" for value in row.values())])
            # In mmdet boxes and masks have the same key, so one of the two is lost.
            found[f"{kind}_{name}_precision"] = row["AP"]
        logger.info("\n" + table.get_string())
        return found


def _to_numpy(values: Tensor) -> np.ndarray:
    """Return a tensor as an array; bfloat16, which numpy lacks, becomes float32."""
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
