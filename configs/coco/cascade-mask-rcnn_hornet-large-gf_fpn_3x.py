"""Cascade Mask R-CNN, HorNet-L GF, FPN, 3x on COCO 2017.

Cost: 258.75 M parameters, 1358.44 G multiply-adds at 1280 x 800 (mmcv's counter) and 1.30 G
of FFT, which that does not count.
Expected: 56.0 box AP, 48.6 mask AP (published by HorNet's authors, not run here).
Weights: hordet://hornet-large-gf-in22k, the authors' ImageNet-22k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-mask-rcnn_hornet-large-gf_fpn_3x
Batch: 8 processes x 2 images.
"""

_base_ = "cascade-mask-rcnn_hornet-large-7x7_fpn_3x.py"

model = dict(
    backbone=dict(
        spatial="gf",
        gf_sizes=((24, 13), (12, 7)),
        init_cfg=dict(checkpoint="hordet://hornet-large-gf-in22k"),
    )
)
