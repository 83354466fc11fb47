"""x"""

_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/nuclei_instance.py",
    "../_base_/schedules/scratch.py",
]
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[3])),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rcnn=dict(max_per_img=300)),
)
train_cfg = dict(max_epochs=20, val_interval=10)
