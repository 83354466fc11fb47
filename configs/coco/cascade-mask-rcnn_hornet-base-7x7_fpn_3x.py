"""Cascade Mask R-CNN, HorNet-B 7x7, FPN, 3x on COCO 2017.

Cost: 144.47 M parameters, 968.82 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: 53.3 box AP, 46.1 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-base-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-base-7x7_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        arch="base",
        drop_path_rate=0.7,
        init_cfg=dict(checkpoint="hordet://hornet-base-7x7"),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
