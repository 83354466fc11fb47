"""Faster R-CNN and Mask R-CNN as a graph of torchvision's operators, with NMS and RoIAlign inside.

The predictions of mmdet branch on the number of objects, and a graph cannot branch. Here the same
steps are written without branches, on mmdet's layers.
"""

from typing import Any

import numpy as np
import torch
import torchvision
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import onnx_delta2bbox
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from hordet.errors import ExportError
from hordet.export.model_graph import ModelGraph


class DetectionGraph(ModelGraph):
    """A whole two-stage detector for one image.

    Args:
        model: mmdet's FasterRCNN or MaskRCNN, with a StandardRoIHead.

    Shape:
        image (1, 3, H, W) from the data preprocessor, and size (2,), its height and width without
        padding -> boxes (K, 4) as (x1, y1, x2, y2) in pixels of the image, scores (K,) and labels
        (K,), best first; with a mask head also mask_logits (K, h, w), each over its box.

    Raises:
        ExportError: A part cannot be exported; the message names it and what is allowed.
    """

    kind = "detections"

    def __init__(self, model: nn.Module) -> None:
        """Check the parts."""
        _check_parts(model)
        super().__init__(model)

    def forward(self, image: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Detect."""
        levels = self.model.extract_feat(image)
        proposals = self._propose(levels, size)
        boxes, scores, labels = self._classify(levels, proposals, size)
        found = {"boxes": boxes, "scores": scores, "labels": labels}
        head = self.model.roi_head
        if head.with_mask:
            masks = head.mask_head(_extract(head.mask_roi_extractor, levels, boxes))
            # A class-agnostic head has one mask for all classes.
            channel = torch.zeros_like(labels) if head.mask_head.class_agnostic else labels
            found["mask_logits"] = masks[torch.arange(labels.shape[0]), channel]
        return found

    def _propose(self, levels: tuple[Tensor, ...], size: Tensor) -> Tensor:
        """Return the proposals (R, 4) of the region proposal network."""
        head = self.model.rpn_head
        cfg = head.test_cfg
        all_logits, all_deltas = head(levels)
        priors = head.prior_generator.grid_priors(
            [x.shape[-2:] for x in all_logits], all_logits[0].dtype, all_logits[0].device
        )
        boxes, scores, ids = [], [], []
        for i, (logits, deltas) in enumerate(zip(all_logits, all_deltas, strict=True)):
            logits = _list_anchors(logits, head.cls_out_channels)
            score = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)
            score, order = score[:, 0].sort(descending=True)
            if cfg.get("nms_pre", -1) > 0:
                # A slice would have the example's length in every size of image.
                best = (torch.arange(score.shape[0]) < cfg.nms_pre).nonzero()[:, 0]
                score, order = score[best], order[best]
            deltas = _list_anchors(deltas, 4)
            boxes.append(_decode(head.bbox_coder, priors[i][order], deltas[order], size))
            scores.append(score)
            ids.append(torch.full_like(order, i))
        box, score, level = torch.cat(boxes), torch.cat(scores), torch.cat(ids)
        smallest = cfg.get("min_bbox_size", -1)
        if smallest >= 0:
            width, height = (box[:, 2:] - box[:, :2]).unbind(-1)
            kept = ((width > smallest) & (height > smallest)).nonzero()[:, 0]
            box, score, level = box[kept], score[kept], level[kept]
        return box[_suppress(box, score, level, cfg.nms, size)[: cfg.max_per_img]]

    def _classify(
        self, levels: tuple[Tensor, ...], proposals: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (K, 4), scores (K,) and labels (K,) of the objects."""
        roi_head, head = self.model.roi_head, self.model.roi_head.bbox_head
        cfg = roi_head.test_cfg
        logits, deltas = head(_extract(roi_head.bbox_roi_extractor, levels, proposals))
        scores = logits.softmax(-1)[:, :-1]
        boxes = _decode(head.bbox_coder, proposals, deltas, size)
        boxes = boxes.reshape(-1, 1 if head.reg_class_agnostic else head.num_classes, 4)
        boxes = boxes.expand(-1, head.num_classes, -1).reshape(-1, 4)
        labels = torch.arange(head.num_classes).expand_as(scores).reshape(-1)
        scores = scores.reshape(-1)
        likely = (scores > cfg.score_thr).nonzero()[:, 0]
        boxes, scores, labels = boxes[likely], scores[likely], labels[likely]
        kept = _suppress(boxes, scores, labels, cfg.nms, size)[: cfg.max_per_img]
        return boxes[kept], scores[kept], labels[kept]


def _list_anchors(level: Tensor, channels: int) -> Tensor:
    """Return the values of a level's anchors, row by row: (1, A C, H, W) -> (H W A, C)."""
    # Without a -1 over rows and columns: torch.export would look for the length in formulas.
    return level[0].permute(1, 2, 0).contiguous().unflatten(2, (-1, channels)).flatten(0, 2)


def _decode(coder: DeltaXYWHBBoxCoder, boxes: Tensor, deltas: Tensor, size: Tensor) -> Tensor:
    """Move boxes (N, 4) by deltas (N, 4 k) and clip them to the image: (N, 4 k)."""
    moved = onnx_delta2bbox(
        boxes,
        deltas,
        coder.means,
        coder.stds,
        add_ctr_clamp=coder.add_ctr_clamp,
        ctr_clamp=coder.ctr_clamp,
    )
    if not coder.clip_border:
        return moved
    limit = size.flip(0).repeat(deltas.shape[1] // 2)
    return torch.minimum(moved.clamp(min=0), limit)


def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor, cfg: Any, size: Tensor) -> Tensor:
    """Return the indices that non-maximum suppression within each group keeps, best first."""
    if not cfg.get("class_agnostic", False):
        # Groups are moved apart, as mmcv does; `size` keeps the maximum defined without any box.
        apart = torch.cat((boxes.flatten(), size)).max() + 1
        boxes = boxes + (groups.to(boxes.dtype) * apart)[:, None]
    # mmcv compares in the precision of the boxes; torchvision would compare in double.
    return torchvision.ops.nms(boxes, scores, float(np.float32(cfg["iou_threshold"])))


def _extract(extractor: SingleRoIExtractor, levels: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Pool the features of each box from its level of the pyramid: (R, 4) -> (R, C, s, s)."""
    levels = levels[: extractor.num_inputs]
    rois = torch.cat((torch.zeros_like(boxes[:, :1]), boxes), dim=1)
    target = extractor.map_roi_levels(rois, len(levels))
    size = extractor.roi_layers[0].output_size
    pooled = boxes.new_zeros(boxes.shape[0], extractor.out_channels, *size)
    for i, (level, layer) in enumerate(zip(levels, extractor.roi_layers, strict=True)):
        mine = (target == i).nonzero()[:, 0]
        pooled[mine] = torchvision.ops.roi_align(
            level, rois[mine], size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
        )
    return pooled


def _check_parts(model: Any) -> None:
    """Refuse a model with a part that the graph above does not cover."""

    def need(fits: bool, got: Any, allowed: str) -> None:
        if not fits:
            name = got if isinstance(got, str) else type(got).__name__
            raise ExportError(
                f"{name} cannot be exported in a whole detector; allowed is {allowed}. Backbone "
                "and neck can be exported alone, as features"
            )

    need(isinstance(model, TwoStageDetector), model, "a FasterRCNN or MaskRCNN")
    need(model.with_rpn and type(model.rpn_head) is RPNHead, "its proposals", "an RPNHead")
    head = model.roi_head
    need(type(head) is StandardRoIHead, head, "a StandardRoIHead")
    need(not head.with_shared_head, "a shared head", "a StandardRoIHead without one")
    need(not head.bbox_head.custom_cls_channels, head.bbox_head.loss_cls, "a softmax of classes")
    extractors = [head.bbox_roi_extractor, *([head.mask_roi_extractor] if head.with_mask else [])]
    for extractor in extractors:
        need(type(extractor) is SingleRoIExtractor, extractor, "a SingleRoIExtractor")
        for layer in extractor.roi_layers:
            mean = getattr(layer, "pool_mode", None) == "avg"
            need(mean, f"{type(layer).__name__} of maxima", "RoIAlign with pool_mode='avg'")
    for part in (model.rpn_head, head.bbox_head):
        need(type(part.bbox_coder) is DeltaXYWHBBoxCoder, part.bbox_coder, "DeltaXYWHBBoxCoder")
    for cfg in (model.rpn_head.test_cfg.nms, head.test_cfg.nms):
        known = {"type", "iou_threshold", "class_agnostic", "split_thr"}
        plain = cfg.get("type", "nms") == "nms" and set(cfg) <= known
        need(plain, f"nms={dict(cfg)}", "dict(type='nms', iou_threshold=)")


class MmdetReference(ModelGraph):
    """The same detections by mmdet's own methods in eager mode, as a reference."""

    kind = "detections"

    def forward(self, image: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Detect; see `DetectionGraph`."""
        head = self.model.roi_head
        shape = tuple(int(side) for side in size)
        sample = DetDataSample(metainfo=dict(img_shape=shape, scale_factor=(1.0, 1.0)))
        levels = self.model.extract_feat(image)
        proposals = self.model.rpn_head.predict(levels, [sample], rescale=False)
        found = head.predict_bbox(levels, [sample.metainfo], proposals, head.test_cfg)[0]
        result = {"boxes": found.bboxes, "scores": found.scores, "labels": found.labels}
        if head.with_mask:
            masks = head._mask_forward(levels, bbox2roi([found.bboxes]))["mask_preds"]
            channel = found.labels * (not head.mask_head.class_agnostic)
            result["mask_logits"] = masks[range(len(found)), channel]
        return result
