"""The layers under their names in the registry; they themselves know torch alone.

`dict(type='hordet.GnConv', ...)` builds one, and `norm_cfg=dict(type='hordet.LayerNorm2d')` is a
norm for every component of mmdet and mmseg that takes one.
"""

from typing import Any

from mmcv.cnn import build_activation_layer, build_norm_layer

from hordet.layers import GlobalLocalFilter, GnConv, GnFusion, LayerNorm2d
from hordet.registry import MODELS

for layer in (GlobalLocalFilter, GnConv, LayerNorm2d):
    MODELS.register_module(module=layer)


@MODELS.register_module(name="GnFusion")
def build_gn_fusion(
    in_channels: int,
    out_channels: int,
    order: int = 2,
    norm_cfg: dict[str, Any] | None = None,
    act_cfg: dict[str, Any] | None = None,
    **options: Any,
) -> GnFusion:
    """Build a `hordet.layers.GnFusion` with norm and activation as configs write them.

    `dict(type='hordet.GnFusion', ...)` is this function: necks and heads build theirs by it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        order: Number of gates.
        norm_cfg: The norm, such as dict(type='BN'); None for none.
        act_cfg: The activation, such as dict(type='ReLU'); None for none.
        options: The other parameters of `hordet.layers.GnConv`.

    Raises:
        ValueError: As `hordet.layers.GnConv`.
    """
    return GnFusion(
        in_channels,
        out_channels,
        order,
        norm=build_norm_layer(norm_cfg, out_channels) if norm_cfg else None,
        act=build_activation_layer(act_cfg) if act_cfg else None,
        **options,
    )
