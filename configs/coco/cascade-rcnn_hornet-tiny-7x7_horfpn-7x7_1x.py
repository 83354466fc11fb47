"""Cascade R-CNN, HorNet-T 7x7, HorFPN-7x7 on COCO 2017.

Cost: 65.68 M parameters, 196.99 G multiply-adds at 1280 x 800 (mmcv's counter).
Expected: none known; it has not been trained.
Weights: hordet://hornet-tiny-7x7, the authors' ImageNet-1k file.
Train: torchrun --nproc-per-node 8 -m hordet train cascade-rcnn_hornet-tiny-7x7_horfpn-7x7_1x
Batch: 8 processes x 2 images.
"""

_base_ = [
    "../_base_/models/cascade_rcnn.py",
    "../_base_/models/hornet-tiny_horfpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/1x_boxes.py",
]

model = dict(backbone=_base_.hornet_tiny, neck=_base_.horfpn)
