"""Cascade Mask R-CNN, HorNet-L 7x7, FPN, 3x on COCO 2017.

Cost: 251.49 M parameters, 1363.43 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: 55.4 box AP, 48.0 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-large-7x7-in22k, the authors' ImageNet-22k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-large-7x7_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        arch="large",
        drop_path_rate=0.7,
        init_cfg=dict(checkpoint="hordet://hornet-large-7x7-in22k"),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
