"""UperNet, ResNet-101, stock UPerHead with mmseg's own recipe: a tuned baseline on ADE20K.

Cost: 85.51 M parameters, 1029.34 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known here.
Recipe and test: as upernet_r50_uperhead_160k-sgd.py.
Weights: hordet://resnet-101-v1c, mmseg's resnet101_v1c.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_r101_uperhead_160k-sgd
Batch: 8 processes x 2 images.
"""

_base_ = "upernet_r50_uperhead_160k-sgd.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="hordet://resnet-101-v1c")))
