"""UperNet, ConvNeXt-T, stock UPerHead: a baseline of the head study on ADE20K.

Cost: 60.24 M parameters, 938.68 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known for this recipe.
Recipe: that of HorNet's head study, which is ConvNeXt's: decay 0.9 a stage.
Weights: hordet://convnext-tiny, timm's convnext_tiny.fb_in1k.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_convnext-tiny_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_convnext-tiny_uperhead_160k CHECKPOINT
    (windows of 512 pixels, stride 341; --tta: several scales, each also flipped)
"""

_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/160k.py",
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
