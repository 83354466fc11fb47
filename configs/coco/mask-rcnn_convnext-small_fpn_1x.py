"""Mask R-CNN, ConvNeXt-S, FPN: a baseline of the neck study on COCO 2017.

Cost: 69.73 M parameters, 348.43 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known for this recipe.
Recipe: as mask-rcnn_convnext-tiny_fpn_1x.py.
Weights: hordet://convnext-small, timm's convnext_small.fb_in1k.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_convnext-small_fpn_1x
Batch: 8 processes x 2 images.
"""

_base_ = "mask-rcnn_convnext-tiny_fpn_1x.py"

model = dict(
    backbone=dict(
        model_name="convnext_small",
        drop_path_rate=0.6,
        init_cfg=dict(checkpoint="hordet://convnext-small"),
    )
)
