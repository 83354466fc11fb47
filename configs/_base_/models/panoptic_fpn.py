"""Panoptic FPN (Kirillov et al., CVPR 2019) on HorNet-T and a stock FPN: 80 things, 53 stuff.

mmdet's Mask R-CNN of things and a semantic head of stuff on one pyramid; where the two overlap,
things win.
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

default_scope = "mmdet"
model = dict(
    type="PanopticFPN",
    data_preprocessor=dict(pad_seg=True, seg_pad_value=255),
    backbone=dict(_delete_=True, type="hordet.HorNet", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
    semantic_head=dict(
        type="PanopticFPNHead",
        num_things_classes=80,
        num_stuff_classes=53,
        in_channels=256,
        inner_channels=128,
        start_level=0,
        end_level=4,
        norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
        loss_seg=dict(type="CrossEntropyLoss", ignore_index=255, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(
        type="HeuristicFusionHead", num_things_classes=80, num_stuff_classes=53
    ),
    test_cfg=dict(
        rcnn=dict(score_thr=0.6, nms=dict(class_agnostic=True)),
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=4096),
    ),
)
