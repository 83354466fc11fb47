"""Mask R-CNN's mask head, whose targets are cut from each object's mask once."""

from typing import Any

import torch
from mmcv.ops import roi_align
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as MmdetFCNMaskHead
from mmdet.structures.mask import BitmapMasks
from torch import Tensor
from torch.nn.modules.utils import _pair

from hordet.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(MmdetFCNMaskHead):
    """mmdet's FCNMaskHead (He et al., ICCV 2017), whose targets stay on the device.

    mmdet copies the mask of the image for each box that is trained on, up to 128 of them, and takes
    boxes to the host and targets back. Here a box names its mask, so the masks are read as they
    are. The same parameters, targets, predictions and options.
    """

    def get_targets(
        self, sampling_results: list[Any], batch_gt_instances: list[Any], rcnn_train_cfg: Any
    ) -> Tensor:
        """Cut the target of each positive box out of its object's mask.

        Args:
            sampling_results: Of each image: `pos_priors`, boxes (n, 4), and `pos_assigned_gt_inds`,
                objects (n,).
            batch_gt_instances: Of each image: `masks` of its objects.
            rcnn_train_cfg: `mask_size`, and `soft_mask_target` if targets are not 0 or 1.

        Returns:
            Targets of all images, (sum of n, h, w), float32.
        """
        if not all(isinstance(each.masks, BitmapMasks) for each in batch_gt_instances):
            return super().get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        size = _pair(rcnn_train_cfg.mask_size)
        soft = rcnn_train_cfg.get("soft_mask_target", False)
        parts = []
        for result, truth in zip(sampling_results, batch_gt_instances, strict=True):
            boxes, masks = result.pos_priors, truth.masks
            boxes = getattr(boxes, "tensor", boxes).detach()
            if not len(boxes):
                parts.append(boxes.new_zeros((0, *size)))
                continue
            limits = boxes.new_tensor([masks.width, masks.height] * 2)
            boxes = torch.minimum(boxes.clamp(min=0), limits)
            regions = torch.cat([result.pos_assigned_gt_inds[:, None].to(boxes), boxes], dim=1)
            bitmaps = torch.from_numpy(masks.masks).to(boxes.device, non_blocking=True)
            found = roi_align(bitmaps[:, None].to(boxes), regions, size, 1.0, 0, "avg", True)
            found = found.squeeze(1)
            parts.append(found if soft else (found >= 0.5).float())
        return torch.cat(parts)
