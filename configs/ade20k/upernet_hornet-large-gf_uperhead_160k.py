"""UperNet, HorNet-L GF, stock UPerHead, 160k on ADE20K at 640.

Cost: 239.03 M parameters, 2464.85 G multiply-adds at 2560 x 640 (mmcv's counter) and 2.26 G
of FFT, which that does not count.
Expected: 55.0 mIoU, 55.2 multi-scale and flip (published by HorNet's authors, not run here).
Weights: hordet://hornet-large-gf-in22k, the authors' ImageNet-22k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-large-gf_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_hornet-large-gf_uperhead_160k CHECKPOINT
    (windows of 640 pixels, stride 426; --tta: several scales, each also flipped)
"""

_base_ = "upernet_hornet-large-7x7_uperhead_160k.py"

model = dict(
    backbone=dict(
        spatial="gf",
        gf_sizes=((24, 13), (12, 7)),
        with_cp=True,
        init_cfg=dict(checkpoint="hordet://hornet-large-gf-in22k"),
    )
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1, norm_type=2))  # gates multiply
