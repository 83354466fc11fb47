"""UperNet, HorNet-B 7x7, stock UPerHead, 160k on ADE20K.

Cost: 120.77 M parameters, 1174.37 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: 50.0 mIoU, 50.5 multi-scale and flip (published by HorNet's authors, not run here).
Weights: hordet://hornet-base-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-base-7x7_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_hornet-base-7x7_uperhead_160k CHECKPOINT
    (windows of 512 pixels, stride 341; --tta: several scales, each also flipped)
"""

_base_ = "upernet_hornet-small-7x7_uperhead_160k.py"

model = dict(
    backbone=dict(
        arch="base",
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint="hordet://hornet-base-7x7"),
    ),
)
