"""UperNet, HorNet-T GF, stock UPerHead, 160k on ADE20K.

Cost: 54.63 M parameters, 923.87 G multiply-adds at 2048 x 512 (mmcv's counter) and 0.44 G
of FFT, which that does not count.
Expected: 49.2 mIoU, 49.3 multi-scale and flip (published by HorNet's authors, not run here).
Weights: hordet://hornet-tiny-gf, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-tiny-gf_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_hornet-tiny-gf_uperhead_160k CHECKPOINT
    (windows of 512 pixels, stride 341; --tta: several scales, each also flipped)
"""

_base_ = "upernet_hornet-tiny-7x7_uperhead_160k.py"

model = dict(
    backbone=dict(
        spatial="gf",
        gf_sizes=((24, 13), (12, 7)),
        init_cfg=dict(checkpoint="hordet://hornet-tiny-gf"),
    )
)
optim_wrapper = dict(clip_grad=dict(max_norm=1, norm_type=2))  # gates multiply
