"""Mask R-CNN, HorNet-nano, HorFPN on generated shapes, from scratch: the quick start.

Cost: 3.8 M parameters; 7 epochs of 400 images in 5 to 6 minutes on two CPU cores.
Expected: box AP 0.729, 0.716, 0.695, mask AP 0.748, 0.734, 0.715 (measured here, seeds 0, 1 and 2,
one thread). The fusions learn at three times the rate: at six times box AP 0.706, mask AP 0.732
(seed 0). Before the skip and the context start, at the same rate for all, 0.704 and 0.718 (seed 0).
Train: hordet train mask-rcnn_hornet-nano_horfpn_7e
"""

_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/schedules/scratch.py",
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=6), mask_head=dict(num_classes=6)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"neck.fpn_convs": dict(lr_mult=3)}))
train_cfg = dict(max_epochs=7, val_interval=7)
