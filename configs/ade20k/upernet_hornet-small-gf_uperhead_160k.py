"""UperNet, HorNet-S GF, stock UPerHead, 160k on ADE20K.

Cost: 84.81 M parameters, 1027.49 G multiply-adds at 2048 x 512 (mmcv's counter) and 0.67 G
of FFT, which that does not count.
Expected: 50.0 mIoU, 50.5 multi-scale and flip (published by HorNet's authors, not run here).
Weights: hordet://hornet-small-gf, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-small-gf_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_hornet-small-gf_uperhead_160k CHECKPOINT
    (windows of 512 pixels, stride 341; --tta: several scales, each also flipped)
"""

_base_ = "upernet_hornet-small-7x7_uperhead_160k.py"

model = dict(
    backbone=dict(
        spatial="gf",
        gf_sizes=((24, 13), (12, 7)),
        init_cfg=dict(checkpoint="hordet://hornet-small-gf"),
    )
)
optim_wrapper = dict(clip_grad=dict(max_norm=1, norm_type=2))  # gates multiply
