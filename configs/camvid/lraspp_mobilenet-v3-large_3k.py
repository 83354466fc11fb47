"""Lite R-ASPP on MobileNetV3-large (Howard et al., ICCV 2019) on CamVid, from scratch: to compare.

mmseg's backbone and head (the head for images of this size) on the data, losses and
schedule of upernet_hornet-nano_horuperhead_3k.py.

Cost: 3.28 M parameters, 1.42 G multiply-adds (with HorUPerHead: 3.29 M, 0.63 G).
Expected: not run in full yet.
Train: hordet train lraspp_mobilenet-v3-large_3k --data-root FOLDER
"""

_base_ = "upernet_hornet-nano_horuperhead_3k.py"

norm_cfg = dict(type="BN", eps=0.001)
model = dict(
    backbone=dict(
        _delete_=True, type="MobileNetV3", arch="large", out_indices=(1, 3, 16), norm_cfg=norm_cfg
    ),
    decode_head=dict(
        _delete_=True,
        type="hordet.LRASPPHead",
        in_channels=(16, 24, 960),
        in_index=(0, 1, 2),
        channels=128,
        input_transform="multiple_select",
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=_base_.model.decode_head.loss_decode,
    ),
    auxiliary_head=None,
)
