"""Mask R-CNN, ResNet-101, FPN: a baseline of the neck study on COCO 2017.

Cost: 63.39 M parameters, 336.21 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known for this recipe.
Recipe: as mask-rcnn_r50_fpn_1x.py; mmdet's own with SGD is mask-rcnn_r101_fpn_1x-sgd.py.
Weights: hordet://resnet-101, torchvision's ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_r101_fpn_1x
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_r50_fpn_1x.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="hordet://resnet-101")))
