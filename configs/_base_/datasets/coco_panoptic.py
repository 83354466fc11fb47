"""Panoptic segmentation on COCO 2017 in its usual layout: 80 things, 53 stuff; mmdet's pipelines.

The short side to 800, the long one within 1333; flip 0.5. Two images a process.
"""

_base_ = "mmdet::_base_/datasets/coco_panoptic.py"

data_root = "{{$HORDET_DATA:data}}/coco"
load = dict(type="hordet.LoadImageFromFile")
train_pipeline = [load, *_base_.train_pipeline[1:]]
test_pipeline = [load, *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    ann_file="{{$HORDET_DATA:data}}/coco/annotations/panoptic_val2017.json",
    seg_prefix="{{$HORDET_DATA:data}}/coco/annotations/panoptic_val2017/",
)
test_evaluator = val_evaluator
