"""Mask R-CNN, HorNet-S 7x7, FPN: the baseline of the neck study on COCO 2017.

Cost: 69.03 M parameters, 351.34 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known; the paper's neck table is not reproduced here.
Weights: hordet://hornet-small-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train mask-rcnn_hornet-small-7x7_fpn_1x
Batch: 8 processes x 2 images.
"""

_base_ = [
    "../_base_/models/mask_rcnn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/1x.py",
]

model = dict(
    backbone=dict(
        drop_path_rate=0.6,
        init_cfg=dict(type="Pretrained", checkpoint="hordet://hornet-small-7x7"),
    )
)
# The published layer rates, which reach 1.29 in deep layers because num_layers=6 meets ids made for
# 12. Without this line each block has its own rate, all at most 1.
optim_wrapper = dict(paramwise_cfg=dict(mode="official", num_layers=6))
