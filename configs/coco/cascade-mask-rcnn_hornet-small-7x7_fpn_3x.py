"""Cascade Mask R-CNN, HorNet-S 7x7, FPN, 3x on COCO 2017.

Cost: 106.87 M parameters, 829.91 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: 52.7 box AP, 45.6 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-small-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-small-7x7_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        arch="small",
        drop_path_rate=0.6,
        init_cfg=dict(checkpoint="hordet://hornet-small-7x7"),
    ),
)
