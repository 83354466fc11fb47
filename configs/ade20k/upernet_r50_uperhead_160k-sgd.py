"""UperNet, ResNet-50, stock UPerHead with mmseg's own recipe: a tuned baseline on ADE20K.

Cost: 66.52 M parameters, 951.65 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: 42.05 mIoU, 42.78 multi-scale and flip (published by mmseg, not run here).
Recipe: SGD at 0.01 with poly 0.9, tested on whole images.
Weights: hordet://resnet-50-v1c, mmseg's resnet50_v1c.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_r50_uperhead_160k-sgd
Batch: 8 processes x 2 images.
Test: hordet test upernet_r50_uperhead_160k-sgd CHECKPOINT
    (--tta: several scales, each also flipped)
"""

_base_ = "upernet_r50_uperhead_160k.py"

model = dict(test_cfg=dict(_delete_=True, mode="whole"))
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005),
)
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=1e-4, by_epoch=False, begin=0, end=160000)
]
