"""Small models that can be exported: every layer counts, and a detector finds objects."""

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from hordet.registry import MODELS

ARCH = dict(base_channels=8, depths=(1, 1, 1, 1), orders=(2, 2, 2, 2))
CHANNELS = [8, 16, 32, 64]


def awake(model):
    """Weights and statistics under which every part of a model counts."""
    generator = torch.Generator().manual_seed(0)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.ndim == 1 and value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.data.copy_(0.5 + noise if name.endswith(("weight", "var")) else noise - 0.5)
    model.dataset_meta = {}
    return model.eval()


def segmentor(spatial):
    torch.manual_seed(0)
    cfg = Config(
        dict(
            default_scope="mmseg",
            model=dict(
                type="hordet.EncoderDecoder",
                data_preprocessor=dict(type="SegDataPreProcessor", mean=[9.0] * 3, std=[50.0] * 3),
                backbone=dict(
                    type="hordet.HorNet",
                    arch=ARCH,
                    spatial=spatial,
                    layer_scale_init_value=1.0,
                    init="near_linear",
                ),
                decode_head=dict(
                    type="hordet.HorUPerHead",
                    in_channels=CHANNELS,
                    in_index=[0, 1, 2, 3],
                    channels=8,
                    num_classes=3,
                    spatial=spatial,
                    norm_cfg=dict(type="BN"),
                    loss_decode=dict(type="CrossEntropyLoss"),
                ),
                test_cfg=dict(mode="whole"),
            ),
        )
    )
    with DefaultScope.overwrite_default_scope("mmseg"):
        return awake(MODELS.build(cfg.model)), cfg


def detector(mask=True, classes=3):
    torch.manual_seed(0)
    cfg = Config.fromfile("configs/_base_/models/mask_rcnn_nano.py")
    cfg.merge_from_dict(
        {
            "model.neck.in_channels": CHANNELS,
            "model.neck.out_channels": 8,
            "model.rpn_head.in_channels": 8,
            "model.rpn_head.feat_channels": 8,
            "model.roi_head.bbox_roi_extractor.out_channels": 8,
            "model.roi_head.bbox_head.in_channels": 8,
            "model.roi_head.bbox_head.conv_out_channels": 8,
            "model.roi_head.bbox_head.fc_out_channels": 16,
            "model.roi_head.bbox_head.num_classes": classes,
            "model.roi_head.mask_roi_extractor.out_channels": 8,
            "model.roi_head.mask_head.in_channels": 8,
            "model.roi_head.mask_head.conv_out_channels": 8,
            "model.roi_head.mask_head.num_classes": classes,
        }
    )
    cfg.model.backbone.arch = ARCH
    if not mask:
        del cfg.model.roi_head["mask_roi_extractor"], cfg.model.roi_head["mask_head"]
    with DefaultScope.overwrite_default_scope("mmdet"):
        return awake(MODELS.build(cfg.model)), cfg
