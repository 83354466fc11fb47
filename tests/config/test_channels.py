"""`in_channels` left out of a config: filled from what the part before declares, or compared."""

import pytest
from mmengine.registry import DefaultScope

from hordet.backbones import HorNet, TimmBackbone, TorchvisionBackbone
from hordet.config.load import load_config
from hordet.errors import ConfigError
from hordet.registry import MODELS

NECK = ("model.neck.in_channels",)
HEADS = ("model.decode_head.in_channels", "model.auxiliary_head.in_channels")


@pytest.mark.parametrize(
    ("leaf", "keys"),
    [
        ("shapes/mask-rcnn_hornet-nano_horfpn_7e", NECK),
        ("shapes/mask-rcnn_hornet-nano_fpn_7e", NECK),  # a neck of mmdet
        ("shapes/eseg_hornet-nano_bifpn_1k", (*NECK, HEADS[0])),
        ("camvid/upernet_efficientnet-lite0_horuperhead_0.5k", HEADS),
        ("coco/mask-rcnn_convnext-tiny_fpn_1x", NECK),
    ],
)
def test_left_out_channels_are_the_stated_ones(repository, leaf, keys):
    path = repository / f"configs/{leaf}.py"
    stated = load_config(path).to_dict()
    assert load_config(path, dict.fromkeys(keys)).to_dict() == stated


def test_they_follow_the_backbone(repository):
    path = repository / "configs/shapes/mask-rcnn_hornet-nano_horfpn_7e.py"
    options = {"model.backbone.out_indices": [1, 2, 3], "model.neck.in_channels": None}
    cfg = load_config(path, options, tiny=True)
    assert cfg.model.neck.in_channels == [64, 128, 256]
    cfg = load_config(path, options | {"model.backbone.arch": "tiny"}, tiny=True)
    assert cfg.model.neck.in_channels == [128, 256, 512]
    with DefaultScope.overwrite_default_scope("mmdet"):
        MODELS.build(cfg.model.neck)


@pytest.mark.parametrize(
    ("leaf", "options", "message"),
    [
        (
            "shapes/mask-rcnn_hornet-nano_horfpn_7e",
            {"model.backbone.arch": "tiny", "model.neck.in_channels": [32, 64, 128, 256]},
            r"model\.neck: got in_channels=\[32, 64, 128, 256\], and the backbone gives maps of "
            r"\[64, 128, 256, 512\] channels.*leave in_channels out",
        ),
        (
            "shapes/eseg_hornet-nano_bifpn_1k",
            {"model.neck.out_channels": 32},
            r"model\.decode_head: got in_channels=\[64, .*and the neck gives maps of \[32, 32",
        ),
        (
            "camvid/upernet_hornet-nano_horuperhead_3k",
            {"model.auxiliary_head.in_channels": 64},
            r"model\.auxiliary_head: got in_channels=64, .*takes 128",
        ),
        (
            "camvid/upernet_hornet-nano_horuperhead_3k",
            {"model.auxiliary_head.in_index": 4},
            r"got in_index=4, and the backbone gives 4 maps.*allowed are 0 to 3",
        ),
        (
            "shapes/mask-rcnn_hornet-nano_horfpn_7e",
            {"model.backbone.arch": "tinny"},
            r"model\.backbone: got arch='tinny'; allowed are nano",
        ),
    ],
)
def test_a_contradiction_is_an_error_that_says_both(repository, leaf, options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(repository / f"configs/{leaf}.py", options)


def test_behind_a_part_that_declares_nothing_the_stated_channels_stay(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'\n"
        "model = dict(neck=dict(type='hordet.HorFPN', in_channels=[1, 2, 3, 4]))\n"
    )
    assert load_config(path).model.neck.in_channels == [1, 2, 3, 4]
    assert load_config(path, {"model.neck.in_channels": None}).model.neck.in_channels is None


def test_a_list_of_necks_is_a_chain(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "default_scope = 'mmdet'\n"
        "model = dict(\n"
        "    backbone=dict(type='hordet.HorNet', arch='nano', out_indices=(1, 2, 3)),\n"
        "    neck=[\n"
        "        dict(type='hordet.GraphFPN', out_channels=64, num_outs=5),\n"
        "        dict(type='hordet.HorFPN', out_channels=32, num_outs=5),\n"
        "    ],\n"
        ")\n"
    )
    first, second = load_config(path).model.neck
    assert (first.in_channels, second.in_channels) == ([64, 128, 256], [64] * 5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (HorNet, {}),
        (HorNet, dict(arch="base", out_indices=(1, 3), spatial="gf", with_cp=True)),
        (TimmBackbone, dict(model_name="tf_efficientnet_lite0")),
        (TimmBackbone, dict(model_name="convnext_atto", out_indices=(0, 2), out_norm=True)),
        (TimmBackbone, dict(model_name="swin_tiny_patch4_window7_224")),
        (TorchvisionBackbone, dict(model_name="shufflenet_v2_x1_0")),
    ],
    ids=lambda value: value.get("model_name") if isinstance(value, dict) else value.__name__,
)
def test_a_backbone_declares_what_it_gives(kind, options):
    assert kind.declare_channels(**options) == kind(**options).out_channels
