"""Cascade Mask R-CNN, HorNet-S GF, FPN, 3x on COCO 2017.

Cost: 107.74 M parameters, 827.42 G multiply-adds at 1280 x 800 (mmcv's counter) and 0.65 G
of FFT, which that does not count.
Expected: 53.3 box AP, 46.3 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-small-gf, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-small-gf_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-small-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        spatial="gf",
        init_cfg=dict(checkpoint="hordet://hornet-small-gf"),
    )
)
