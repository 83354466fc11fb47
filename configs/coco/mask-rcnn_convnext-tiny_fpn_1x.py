"""Mask R-CNN, ConvNeXt-T, FPN: a baseline of the neck study on COCO 2017.

Cost: 48.10 M parameters, 262.11 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known for this recipe.
Recipe: that of HorNet's neck study, which is ConvNeXt's: layer decay 0.95.
Weights: hordet://convnext-tiny, timm's convnext_tiny.fb_in1k.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_convnext-tiny_fpn_1x
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
        type="hordet.TimmBackbone",
        model_name="convnext_tiny",
        drop_path_rate=0.4,
        out_norm=True,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://convnext-tiny"),
    )
)
