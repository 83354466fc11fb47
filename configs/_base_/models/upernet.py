"""UperNet (Xiao et al., ECCV 2018) on HorNet, for 150 classes and crops of 512 pixels.

A child says what differs: `backbone.arch`, the decode head's type, `num_classes` of both heads,
`data_preprocessor.size` and `test_cfg`. The heads' `in_channels` are those that the backbone
declares; with a backbone of mmdet or mmseg, state them.
"""

default_scope = "mmseg"
sync_bn = "torch"  # BatchNorm over all processes, where there are several
norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    type="hordet.EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(type="hordet.HorNet", arch="small"),
    decode_head=dict(
        type="UPerHead",
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
tta_model = dict(type="hordet.SegTTAModel")
