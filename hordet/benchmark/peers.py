"""The backbones that people compare, as configs: `backbone=PEERS["ConvNeXt-T"]`.

`tests/test_peers.py` trains a step of each under HorFPN, and `hordet benchmark backbones` writes
them, with their channels and their cost, to `docs/backbones.md`. None loads weights: add
`init_cfg=dict(type="Pretrained", checkpoint=...)`. Where a model comes in several sizes, the row is
the one that is compared with ResNet-50.
"""

from typing import Any


def _timm(model_name: str, **options: Any) -> dict[str, Any]:
    return dict(type="hordet.TimmBackbone", model_name=model_name, **options)


def _plugin(stages: tuple[bool, ...], **settings: Any) -> dict[str, Any]:
    """Configure ResNet-50 with a layer of mmcv's behind the last convolution of each block."""
    plugin = dict(cfg=settings, stages=stages, position="after_conv3")
    return dict(type="mmdet.ResNet", depth=50, style="pytorch", plugins=[plugin])


PEERS: dict[str, dict[str, Any]] = {
    "HorNet-T 7x7": dict(type="hordet.HorNet", arch="tiny"),
    "ResNet-50": _timm("resnet50"),
    "ResNeXt-50 32x4d": _timm("resnext50_32x4d"),
    "ResNetV2-50 (pre-activation)": _timm("resnetv2_50"),
    "Wide ResNet-50-2": _timm("wide_resnet50_2"),
    "DenseNet-121": _timm("densenet121"),
    "Res2Net-50 26w 4s": _timm("res2net50_26w_4s"),
    "SKNet-50": _timm("skresnet50"),
    "SE-ResNet-50": _timm("seresnet50"),
    "ECA-ResNet-50-T": _timm("ecaresnet50t"),
    "GC-ResNet-50-T": _timm("gcresnet50t"),
    # mmdet's ResNet with layers of mmcv; stages as in GCNet, and the last but one for Non-local.
    "ResNet-50 + GC blocks": _plugin((False, True, True, True), type="ContextBlock", ratio=1 / 4),
    "ResNet-50 + Non-local": _plugin((False, False, True, False), type="NonLocal2d"),
    "BoTNet-50-TS": _timm("botnet50ts_256"),
    "HaloNet-50-TS": _timm("halonet50ts"),
    "CoAtNet-0": _timm("coatnet_0_rw_224"),
    "EfficientNet-B0 (AdvProp)": _timm("tf_efficientnet_b0.ap_in1k"),
    "EfficientNet-Lite0": _timm("tf_efficientnet_lite0"),
    "EfficientNetV2-S": _timm("tf_efficientnetv2_s"),
    "GhostNet 1.0": _timm("ghostnet_100"),
    "MnasNet-B1": _timm("mnasnet_100"),
    "MobileNetV2": _timm("mobilenetv2_100"),
    "MobileNetV3-L": _timm("mobilenetv3_large_100"),
    "ShuffleNetV2 1.0": dict(type="hordet.TorchvisionBackbone", model_name="shufflenet_v2_x1_0"),
    "RepVGG-A2": _timm("repvgg_a2"),
    "ConvNeXt-T": _timm("convnext_tiny", out_norm=True),
    "Swin-T": _timm("swin_tiny_patch4_window7_224", out_norm=True),
}
