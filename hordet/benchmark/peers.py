"""Configs of well-known backbones, for comparison: `backbone=PEERS["ConvNeXt-T"]`.

`tests/benchmark/test_peers.py` trains a step of each under HorFPN, and `hordet benchmark backbones`
writes them, with channels and cost, to `docs/backbones.md`. None loads weights: add
`init_cfg=dict(type="Pretrained", checkpoint=...)`. Of models in several sizes, the table has the
one that is usually compared with ResNet-50.
"""

from typing import Any


def _configure_timm(model_name: str, **options: Any) -> dict[str, Any]:
    return dict(type="hordet.TimmBackbone", model_name=model_name, **options)


def _configure_plugin(stages: tuple[bool, ...], **settings: Any) -> dict[str, Any]:
    """Return ResNet-50 with a layer of mmcv after the last convolution of each block of stages."""
    plugin = dict(cfg=settings, stages=stages, position="after_conv3")
    return dict(type="mmdet.ResNet", depth=50, style="pytorch", plugins=[plugin])


PEERS: dict[str, dict[str, Any]] = {
    "HorNet-T 7x7": dict(type="hordet.HorNet", arch="tiny"),
    "ResNet-50": _configure_timm("resnet50"),
    "ResNeXt-50 32x4d": _configure_timm("resnext50_32x4d"),
    "ResNetV2-50 (pre-activation)": _configure_timm("resnetv2_50"),
    "Wide ResNet-50-2": _configure_timm("wide_resnet50_2"),
    "DenseNet-121": _configure_timm("densenet121"),
    "Res2Net-50 26w 4s": _configure_timm("res2net50_26w_4s"),
    "SKNet-50": _configure_timm("skresnet50"),
    "SE-ResNet-50": _configure_timm("seresnet50"),
    "ECA-ResNet-50-T": _configure_timm("ecaresnet50t"),
    "GC-ResNet-50-T": _configure_timm("gcresnet50t"),
    # mmdet's ResNet with layers of mmcv; stages as in GCNet, for Non-local only the last but one.
    "ResNet-50 + GC blocks": _configure_plugin(
        (False, True, True, True), type="ContextBlock", ratio=1 / 4
    ),
    "ResNet-50 + Non-local": _configure_plugin((False, False, True, False), type="NonLocal2d"),
    "BoTNet-50-TS": _configure_timm("botnet50ts_256"),
    "HaloNet-50-TS": _configure_timm("halonet50ts"),
    "CoAtNet-0": _configure_timm("coatnet_0_rw_224"),
    "EfficientNet-B0 (AdvProp)": _configure_timm("tf_efficientnet_b0.ap_in1k"),
    "EfficientNet-Lite0": _configure_timm("tf_efficientnet_lite0"),
    "EfficientNetV2-S": _configure_timm("tf_efficientnetv2_s"),
    "GhostNet 1.0": _configure_timm("ghostnet_100"),
    "MnasNet-B1": _configure_timm("mnasnet_100"),
    "MobileNetV2": _configure_timm("mobilenetv2_100"),
    "MobileNetV3-L": _configure_timm("mobilenetv3_large_100"),
    "ShuffleNetV2 1.0": dict(type="hordet.TorchvisionBackbone", model_name="shufflenet_v2_x1_0"),
    "RepVGG-A2": _configure_timm("repvgg_a2"),
    "RMNet-34": dict(type="hordet.RMNet", depth=34),
    "Network in Network": dict(type="hordet.PlainNetwork", arch="network_in_network"),
    "All-CNN": dict(type="hordet.PlainNetwork", arch="all_cnn"),
    "RaftMLP-S": dict(type="hordet.RaftMLP", arch="small"),
    "DGMN2-Tiny": dict(type="hordet.DGMN2", arch="tiny"),
    "SDA-ResNet-86": dict(type="hordet.SDAResNet", depth=86),
    "G-Ghost-RegNetX-3.2G": dict(type="hordet.GGhostRegNet", arch="032"),
    "PDC-ResNet (compressed)": dict(type="hordet.PDCResNet", arch="compressed"),
    "ConvNeXt-T": _configure_timm("convnext_tiny", out_norm=True),
    "Swin-T": _configure_timm("swin_tiny_patch4_window7_224", out_norm=True),
}
