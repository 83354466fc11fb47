"""UperNet, Swin-S, stock UPerHead: a baseline of the head study on ADE20K.

Cost: 81.26 M parameters, 1032.46 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known for this recipe.
Recipe: Swin's own in mmseg (AdamW at 6e-5, weight decay 0.01).
Weights: hordet://swin-small, its authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_swin-small_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_swin-small_uperhead_160k CHECKPOINT
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
        type="mmdet.SwinTransformer",
        depths=[2, 2, 18, 2],
        drop_path_rate=0.3,
        convert_weights=True,  # from the names of Swin's authors
        init_cfg=dict(type="Pretrained", checkpoint="hordet://swin-small"),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    constructor="DefaultOptimWrapperConstructor",
    paramwise_cfg=dict(
        _delete_=True, custom_keys=dict(norm=no_decay, relative_position_bias_table=no_decay)
    ),
    optimizer=dict(lr=6e-5, weight_decay=0.01),
)
