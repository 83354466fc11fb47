"""COCO's 1x for detectors of boxes alone: the best checkpoint is that of box AP."""

_base_ = "1x.py"

default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
