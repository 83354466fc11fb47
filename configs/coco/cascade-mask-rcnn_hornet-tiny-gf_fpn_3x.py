"""Cascade Mask R-CNN, HorNet-T GF, FPN, 3x on COCO 2017.

Cost: 80.47 M parameters, 728.27 G multiply-adds at 1280 x 800 (mmcv's counter) and 0.43 G
of FFT, which that does not count.
Expected: 52.4 box AP, 45.6 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-tiny-gf, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-tiny-gf_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-tiny-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        spatial="gf",
        init_cfg=dict(checkpoint="hordet://hornet-tiny-gf"),
    )
)
