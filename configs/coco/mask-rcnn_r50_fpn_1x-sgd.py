"""Mask R-CNN, ResNet-50, FPN with mmdet's own recipe: a tuned baseline of the neck study on COCO.

Cost: 44.40 M parameters, 260.14 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: 38.2 box AP, 34.7 mask AP (published by mmdet, not run here).
Recipe: SGD at 0.02, images of one size, L1 loss for the boxes of the RPN.
Weights: hordet://resnet-50, torchvision's ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_r50_fpn_1x-sgd
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_r50_fpn_1x.py"

train_pipeline = [
    dict(type="hordet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="mmdet.RandomFlip", prob=0.5),
    dict(type="mmdet.PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(rpn_head=dict(loss_bbox=dict(_delete_=True, type="L1Loss", loss_weight=1.0)))
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0001),
)
