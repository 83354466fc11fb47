"""Mask R-CNN, Swin-S, FPN: a baseline of the neck study on COCO 2017.

Cost: 69.11 M parameters, 353.77 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known for this recipe.
Recipe: Swin's own for 1x in mmdet, with the crops of DETR.
Weights: hordet://swin-small, its authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_swin-small_fpn_1x
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
        type="mmdet.SwinTransformer",
        depths=[2, 2, 18, 2],
        drop_path_rate=0.2,
        convert_weights=True,  # from the names of Swin's authors
        init_cfg=dict(type="Pretrained", checkpoint="hordet://swin-small"),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    constructor="DefaultOptimWrapperConstructor",
    paramwise_cfg=dict(
        _delete_=True, custom_keys=dict(norm=no_decay, relative_position_bias_table=no_decay)
    ),
)
