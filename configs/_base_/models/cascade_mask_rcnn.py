"""Cascade Mask R-CNN (Cai and Vasconcelos, TPAMI 2019) on HorNet and a stock FPN, for 80 classes.

HorNet's authors: three stages of four convolutions with norm and a layer, boxes by class, GIoU loss
on decoded boxes. What their settings leave open (RPN, matching, sampling) is mmdet's.
"""

_base_ = "mask_rcnn.py"

sync_bn = "torch"  # BatchNorm over all processes, where there are several
coder = dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0])
box_head = dict(
    type="ConvFCBBoxHead",
    num_shared_convs=4,
    num_shared_fcs=1,
    in_channels=256,
    conv_out_channels=256,
    fc_out_channels=1024,
    roi_feat_size=7,
    num_classes=80,
    reg_class_agnostic=False,
    reg_decoded_bbox=True,
    norm_cfg=dict(type="BN"),
    loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
)
assigner = dict(type="MaxIoUAssigner", match_low_quality=False, ignore_iof_thr=-1)
sampling = dict(
    sampler=dict(
        type="RandomSampler",
        num=512,
        pos_fraction=0.25,
        neg_pos_ub=-1,
        add_gt_as_proposals=True,
    ),
    mask_size=28,
    pos_weight=-1,
    debug=False,
)
model = dict(
    type="CascadeRCNN",
    roi_head=dict(
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        # Each stage corrects less: the deviations by which box regression is divided.
        bbox_head=[
            dict(box_head, bbox_coder=dict(coder, target_stds=[0.1, 0.1, 0.2, 0.2])),
            dict(box_head, bbox_coder=dict(coder, target_stds=[0.05, 0.05, 0.1, 0.1])),
            dict(box_head, bbox_coder=dict(coder, target_stds=[0.033, 0.033, 0.067, 0.067])),
        ],
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=0),
        rpn_proposal=dict(max_per_img=2000),
        # Each stage asks more: the overlap that makes a box positive.
        rcnn=[
            dict(
                sampling, assigner=dict(assigner, pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5)
            ),
            dict(
                sampling, assigner=dict(assigner, pos_iou_thr=0.6, neg_iou_thr=0.6, min_pos_iou=0.6)
            ),
            dict(
                sampling, assigner=dict(assigner, pos_iou_thr=0.7, neg_iou_thr=0.7, min_pos_iou=0.7)
            ),
        ],
    ),
)
