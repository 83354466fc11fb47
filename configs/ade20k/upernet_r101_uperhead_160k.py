"""UperNet, ResNet-101, stock UPerHead: a baseline of the head study on ADE20K.

Cost: 85.51 M parameters, 1029.34 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known for this recipe.
Recipe: as upernet_r50_uperhead_160k.py; mmseg's own with SGD is upernet_r101_uperhead_160k-sgd.py.
Weights: mmseg's resnet101_v1c, as pretrained/resnet101_v1c.pth.
Train: torchrun --nproc-per-node 8 tools/train.py THIS --launcher pytorch (batch 8 x 2)
Test: tools/test.py THIS CHECKPOINT (slide, 512/341; --tta for multi-scale and flip)
"""

_base_ = "upernet_r50_uperhead_160k.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="pretrained/resnet101_v1c.pth")))
