"""Mask R-CNN small enough to train on a CPU: HorNet-nano, HorFPN of 64 channels, slim heads.

For images of 100 to 300 pixels a side: anchors start at 16 pixels, half of COCO's.
"""

_base_ = "mask_rcnn.py"

norm_cfg = dict(type="BN")  # from scratch, detectors need norms in neck and heads too

model = dict(
    # From scratch in minutes: the published start (layer scales of 1e-6) keeps every block asleep.
    backbone=dict(arch="nano", layer_scale_init_value=1.0, init="near_linear"),
    neck=dict(type="hordet.HorFPN", out_channels=64, norm_cfg=norm_cfg),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28),
        bbox_head=dict(
            type="ConvFCBBoxHead",
            num_shared_convs=2,
            num_shared_fcs=1,
            in_channels=64,
            conv_out_channels=64,
            fc_out_channels=256,
            norm_cfg=norm_cfg,
            # One regressor for all classes, so that it learns from every object.
            reg_class_agnostic=True,
        ),
        mask_roi_extractor=dict(out_channels=64, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, norm_cfg=norm_cfg),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)
