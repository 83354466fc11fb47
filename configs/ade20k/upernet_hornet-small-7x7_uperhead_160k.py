"""UperNet, HorNet-S 7x7, stock UPerHead: the baseline of the head study on ADE20K.

Cost: 81.18 M parameters, 1030.04 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: 49.2 mIoU, 49.8 multi-scale and flip (published by HorNet's authors, not run here).
Weights: hordet://hornet-small-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-small-7x7_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_hornet-small-7x7_uperhead_160k CHECKPOINT
    (windows of 512 pixels, stride 341; --tta: several scales, each also flipped)
"""

_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/160k.py",
]

model = dict(
    backbone=dict(
        drop_path_rate=0.3,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-small-7x7"),
    )
)
# The published layer rates: 0.25 (stem) to 0.39 (stage 4), then 1 for the heads, because
# num_layers=12 meets five stage ids. Without this line stage 4 has 0.9 and the stem 0.59.
optim_wrapper = dict(paramwise_cfg=dict(mode="official", num_layers=12))
