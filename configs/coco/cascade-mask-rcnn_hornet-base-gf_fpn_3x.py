"""Cascade Mask R-CNN, HorNet-B GF, FPN, 3x on COCO 2017.

Cost: 145.63 M parameters, 965.49 G multiply-adds at 1280 x 800 (mmcv's counter) and 0.87 G
of FFT, which that does not count.
Expected: 54.0 box AP, 46.9 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-base-gf, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-base-gf_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-base-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        spatial="gf",
        init_cfg=dict(checkpoint="hordet://hornet-base-gf"),
    )
)
