"""Metrics of predictions: COCO box and mask AP, mIoU, kinds of error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "coco_metric": ["CocoMetric"],
        "iou_metric": ["IoUMetric"],
    },
)
