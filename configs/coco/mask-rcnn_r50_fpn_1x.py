"""Mask R-CNN, ResNet-50, FPN: a baseline of the neck study on COCO 2017.

Cost: 44.40 M parameters, 260.14 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known for this recipe.
Recipe: that of HorNet's neck study (AdamW, crops of DETR) without layer decay; mmdet's own with
SGD is mask-rcnn_r50_fpn_1x-sgd.py.
Weights: hordet://resnet-50, torchvision's ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_r50_fpn_1x
Batch: 8 processes x 2 images.
"""

_base_ = [
    "../_base_/models/mask_rcnn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/1x.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://resnet-50"),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
