"""Mask R-CNN, HorNet-S 7x7, HorFPN-7x7: the gnConv neck on COCO 2017.

Cost: 67.67 M parameters, 322.40 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known; the paper's neck table is not reproduced here.
Weights and schedule: as mask-rcnn_hornet-small-7x7_fpn_1x.py. The neck is the paper's; without
init="official" and skip=False it is hordet's (docs/concepts.md).
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_hornet-small-7x7_horfpn-7x7_1x
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_hornet-small-7x7_fpn_1x.py"

model = dict(
    neck=dict(
        type="hordet.HorFPN", spatial="dw7x7", order=2, kernel_size=7, init="official", skip=False
    )
)
