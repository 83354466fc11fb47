"""Mask R-CNN, HorNet-nano, HorFPN on fluorescence nuclei (DSB 2018), from scratch.

Cost: 3.8 M parameters; 14 epochs of 199 images in 11 minutes on two CPU cores.
Expected: mask AP 0.503, mask AP50 0.873 (measured here, seed 0), before the skip, the context start
and the rate of the fusions; not run in full since.
Train: hordet train mask-rcnn_hornet-nano_horfpn_14e --data-root FOLDER
"""

_base_ = [
    "../_base_/models/mask_rcnn_nano.py",
    "../_base_/datasets/nuclei_instance.py",
    "../_base_/schedules/scratch.py",
]
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[3])),  # nuclei of 8 to 45 pixels
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    # Up to some hundred nuclei an image.
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=500), rcnn=dict(max_per_img=300)),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"neck.fpn_convs": dict(lr_mult=6)}))
train_cfg = dict(max_epochs=14, val_interval=7)
