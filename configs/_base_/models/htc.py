"""HTC without its semantic branch (Chen et al., CVPR 2019) on HorNet-T and a stock FPN.

mmdet's Cascade Mask R-CNN, whose stages are interleaved: each mask head sees the boxes refined by
its own stage and the features of the mask head before. The semantic branch would need the pixel
maps of COCO-stuff.
"""

_base_ = "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py"

default_scope = "mmdet"
mask_head = dict(
    type="HTCMaskHead",
    num_convs=4,
    in_channels=256,
    conv_out_channels=256,
    num_classes=80,
    loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
)
model = dict(
    type="HybridTaskCascade",
    backbone=dict(_delete_=True, type="hordet.HorNet", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(
        type="HybridTaskCascadeRoIHead",
        interleaved=True,
        mask_info_flow=True,
        # The first has no mask features to take over.
        mask_head=[dict(mask_head, with_conv_res=False), mask_head, mask_head],
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
