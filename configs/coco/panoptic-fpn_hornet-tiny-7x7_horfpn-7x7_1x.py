"""Panoptic FPN, HorNet-T 7x7, HorFPN-7x7 on COCO 2017.

Cost: 42.32 M parameters, 253.29 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known; it has not been trained.
Weights: the authors' ImageNet-1k file, as pretrained/hornet_tiny_7x7.pth.
Train: torchrun --nproc-per-node 8 tools/train.py THIS --launcher pytorch (batch 8 x 2)
"""

_base_ = [
    "../_base_/models/panoptic_fpn.py",
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/1x.py",
]

model = dict(
    backbone=dict(
        drop_path_rate=0.4,
        init_cfg=dict(type="Pretrained", checkpoint="pretrained/hornet_tiny_7x7.pth"),
    ),
    neck=dict(type="hordet.HorFPN", spatial="dw7x7", order=2, kernel_size=7),
)
default_hooks = dict(checkpoint=dict(save_best="coco_panoptic/PQ", rule="greater"))
