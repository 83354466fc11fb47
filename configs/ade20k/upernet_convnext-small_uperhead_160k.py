"""UperNet, ConvNeXt-S, stock UPerHead: a baseline of the head study on ADE20K.

Cost: 81.88 M parameters, 1027.07 G multiply-adds at 2048 x 512 (mmcv's counter).
Expected: none known for this recipe.
Recipe: as upernet_convnext-tiny_uperhead_160k.py.
Weights: hordet://convnext-small, timm's convnext_small.fb_in1k.
Train: torchrun --nproc-per-node 8 -m hordet train upernet_convnext-small_uperhead_160k
Batch: 8 processes x 2 images.
Test: hordet test upernet_convnext-small_uperhead_160k CHECKPOINT
    (windows of 512 pixels, stride 341; --tta: several scales, each also flipped)
"""

_base_ = "upernet_convnext-tiny_uperhead_160k.py"

model = dict(
    backbone=dict(
        model_name="convnext_small",
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint="hordet://convnext-small"),
    )
)
