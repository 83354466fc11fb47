"""COCO 2017 as in coco_instance.py, for detectors of boxes alone."""

_base_ = "coco_instance.py"

load_boxes = dict(type="mmdet.LoadAnnotations", with_bbox=True)
train_dataloader = dict(
    dataset=dict(pipeline=[_base_.train_pipeline[0], load_boxes, *_base_.train_pipeline[2:]])
)
test_pipeline = [*_base_.test_pipeline[:2], load_boxes, _base_.test_pipeline[3]]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(metric=["bbox"])
test_evaluator = val_evaluator
