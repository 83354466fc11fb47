"""x"""

_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/schedules/scratch.py",
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=6), mask_head=dict(num_classes=6)))
train_cfg = dict(max_epochs=14, val_interval=7)
