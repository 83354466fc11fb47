"""UperNet, ResNet-50, stock UPerHead: a baseline of the head study on ADE20K.

Cost: 66.52 M parameters, 951.65 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known for this recipe.
Recipe: that of HorNet's head study (AdamW at 1e-4) without layer decay; mmseg's own with SGD is
upernet_r50_uperhead_160k-sgd.py.
Weights: hordet://resnet-50-v1c, mmseg's resnet50_v1c.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_r50_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_r50_uperhead_160k CHECKPOINT
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
        type="ResNetV1c",
        depth=50,
        contract_dilation=True,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://resnet-50-v1c"),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
