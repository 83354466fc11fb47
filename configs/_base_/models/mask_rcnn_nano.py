"""Mask R-CNN small enough to train on a CPU: HorNet-nano, HorFPN of 64 channels, slim heads.

For pictures of 100 to 300 pixels a side: anchors start at 16 pixels, half of COCO's.
"""

_base_ = "mask_rcnn.py"

model = dict(
    # From scratch in minutes: layer scales of 1e-6 would keep every block asleep.
    backbone=dict(arch="nano", layer_scale_init_value=1.0),
    neck=dict(type="hordet.HorFPN", in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
