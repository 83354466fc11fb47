"""UperNet, HorNet-L 7x7, stock UPerHead, 160k on ADE20K at 640.

Cost: 231.77 M parameters, 2472.83 G multiply-adds at 2560 x 640 (mmcv's counter).
Expected: 54.1 mIoU, 54.5 multi-scale and flip (published by HorNet's authors, not run here).
Weights: hordet://hornet-large-7x7-in22k, the authors' ImageNet-22k file.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_hornet-large-7x7_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_hornet-large-7x7_uperhead_160k CHECKPOINT
    (windows of 640 pixels, stride 426; --tta: several scales, each also flipped)
"""

_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k_640.py",
    "../_base_/schedules/160k.py",
]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch="large",
        drop_path_rate=0.4,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-large-7x7-in22k"),
    ),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
# The published layer rates, as upernet_hornet-small-7x7_uperhead_160k.py explains.
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8, mode="official", num_layers=12))
