"""Cascade Mask R-CNN, HorNet-T 7x7, FPN, 3x on COCO 2017.

Cost: 79.88 M parameters, 729.94 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: 51.7 box AP, 44.8 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-tiny-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = [
    "../_base_/models/cascade_mask_rcnn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/3x.py",
]

model = dict(
    backbone=dict(
        arch="tiny",
        drop_path_rate=0.4,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-tiny-7x7"),
    ),
)
# The published layer rates: 12 layers, two blocks of stage 3 to each. Without this line each block
# has its own rate, and the stem a lower one.
optim_wrapper = dict(paramwise_cfg=dict(mode="official", num_layers=12))
