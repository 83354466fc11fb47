"""Mask R-CNN's mask head, whose predictions are run-length encodings."""

from typing import Any

from torch import Tensor

from hordet.heads.fcn_mask_head import FCNMaskHead
from hordet.heads.mask_rle import paste_encoded
from hordet.registry import MODELS


@MODELS.register_module()
class RleMaskHead(FCNMaskHead):
    """FCNMaskHead (He et al., ICCV 2017) for evaluation on large images.

    Predicted masks are a list of COCO run-length encodings, as mmdet's CocoMetric takes them,
    instead of a boolean (N, H, W) of the image's size: time and memory of the boxes, not of N
    images. The same options, parameters, training and metrics.

    Shape:
        (N, in_channels, H, W) -> logits (N, num_classes, 2 H, 2 W).
    """

    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict[str, Any],
        rcnn_test_cfg: Any,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Any:
        """Paste and encode the masks of one image: (N, classes, h, w) -> N encodings."""
        threshold = rcnn_test_cfg.mask_thr_binary
        if threshold < 0 or activate_map:  # gray masks for debugging; merged augmentations
            return super()._predict_by_feat_single(
                mask_preds, bboxes, labels, img_meta, rcnn_test_cfg, rescale, activate_map
            )
        height, width = img_meta["ori_shape"][:2]
        scale = bboxes.new_tensor(img_meta["scale_factor"])
        if rescale:
            bboxes /= scale.repeat(2)  # in place, as the caller's boxes are rescaled here
        else:
            width, height = round(width * scale[0].item()), round(height * scale[1].item())
        if self.class_agnostic:
            chosen = mask_preds[:, 0]
        else:
            chosen = mask_preds[range(len(labels)), labels]
        return paste_encoded(chosen.sigmoid(), bboxes, height, width, threshold)
