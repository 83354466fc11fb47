"""Multi-scale and flipped test of detectors, masks included."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from mmdet.models.test_time_augs import DetTTAModel as MmdetDetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor

from hordet.inference.views import group_views, require_number_of_views
from hordet.ops.run_lengths import encode_mask
from hordet.registry import MODELS

# Axes of a mask (H, W) that each direction reverses.
_FLIPS = {"horizontal": (1,), "vertical": (0,), "diagonal": (0, 1)}


@MODELS.register_module()
class DetTTAModel(MmdetDetTTAModel):
    """Detections of all views, merged by non-maximum suppression; mmdet's model has boxes alone.

    A mask that is kept is the vote of the masks it stands for: those of its class whose boxes
    overlap its box by the threshold of the suppression, each weighted by its score. Masks of views
    are run lengths until then, so memory does not grow with dense masks of all views.

    Args:
        tta_cfg: `nms`, as a test_cfg has it, and `max_per_img`.
        views_at_once: Views that follow one another, are of one size, such as an image and its
            flip, and go through the network together, at most.
        **options: Those of mmengine's BaseTTAModel.
    """

    def __init__(self, tta_cfg: dict[str, Any], views_at_once: int = 1, **options: Any) -> None:
        """Build the detector."""
        super().__init__(ConfigDict(tta_cfg), **options)
        self.views_at_once = require_number_of_views(views_at_once)

    def test_step(self, data: dict[str, Any]) -> list[DetDataSample]:
        """Predict a batch of images.

        Args:
            data: `inputs` and `data_samples`: for each view a list over the images.

        Returns:
            Merged predictions, one for each image.
        """
        views: list[list[DetDataSample]] = []
        images = len(data["inputs"][0])
        for group in group_views(data["inputs"], self.views_at_once):
            inputs, samples = (
                [item for view in group for item in data[key][view]]
                for key in ("inputs", "data_samples")
            )
            predictions = self.module.test_step({"inputs": inputs, "data_samples": samples})
            for sample in predictions:
                _encode_masks(sample)
            views += [predictions[i : i + images] for i in range(0, len(predictions), images)]
        return self.merge_preds(list(zip(*views, strict=True)))

    def _merge_single_sample(self, data_samples: Sequence[DetDataSample]) -> DetDataSample:
        """Merge the views of one image."""
        if "masks" not in data_samples[0].pred_instances:
            return super()._merge_single_sample(data_samples)
        found = [sample.pred_instances for sample in data_samples]
        metas = [sample.metainfo for sample in data_samples]
        boxes, scores = self.merge_aug_bboxes(
            [item.bboxes for item in found], [item.scores for item in found], metas
        )
        labels = torch.cat([item.labels for item in found])
        masks = [mask for item in found for mask in item.masks]
        kept, keep = boxes.new_zeros(0, 5), labels[:0]
        if len(boxes):
            kept, keep = batched_nms(boxes, scores, labels, self.tta_cfg.nms)
            kept, keep = (item[: self.tta_cfg.max_per_img] for item in (kept, keep))
        threshold = self.tta_cfg.nms.get("iou_threshold", 0.5)
        same = bbox_overlaps(boxes[keep], boxes) >= threshold
        same &= labels[keep][:, None] == labels
        size = metas[0]["ori_shape"][:2]
        merged = data_samples[0]
        merged.pred_instances = InstanceData(
            bboxes=kept[:, :4],
            scores=kept[:, 4],
            labels=labels[keep],
            masks=_vote(same.cpu(), scores.cpu().numpy(), masks, size).to(boxes.device),
        )
        return merged


def _encode_masks(sample: DetDataSample) -> None:
    """Turn the masks of a view into run lengths, as the image lies, not flipped."""
    found = sample.pred_instances
    if "masks" not in found:
        return
    masks = found.pop("masks")
    axes = _FLIPS[sample.metainfo["flip_direction"]] if sample.metainfo.get("flip") else ()
    if not isinstance(masks, list):
        masks = torch.as_tensor(masks).to(torch.uint8).cpu().numpy()
    elif axes:  # of RleMaskHead
        masks = [coco_mask.decode(mask) for mask in masks]
    # Instance data take lists as they are.
    found.masks = [
        mask if isinstance(mask, dict) else encode_mask(np.ascontiguousarray(np.flip(mask, axes)))
        for mask in masks
    ]


def _vote(
    same: Tensor, scores: np.ndarray, masks: list[dict[str, Any]], size: tuple[int, int]
) -> Tensor:
    """Return the masks (K, H, W) that the majority of each row's masks (K, N) votes for."""
    votes = torch.zeros(len(same), *size, dtype=torch.bool)
    for vote, row in zip(votes, same, strict=True):
        members = row.nonzero()[:, 0].tolist()
        dense = coco_mask.decode([masks[i] for i in members])
        weights = scores[members]
        vote[:] = torch.from_numpy(dense @ weights * 2 >= weights.sum())
    return votes
