"""Mask R-CNN, ResNet-101, HorFPN-7x7: the gnConv neck on COCO 2017.

Cost: 62.03 M parameters, 307.27 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known; the paper's neck table is not reproduced here.
Weights and schedule: as mask-rcnn_r101_fpn_1x.py.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_r101_horfpn-7x7_1x
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_r101_fpn_1x.py"

model = dict(neck=dict(type="hordet.HorFPN", spatial="dw7x7", init="official", skip=False))
