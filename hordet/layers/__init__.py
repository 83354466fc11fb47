"""The mathematics of HorNet in plain torch: no OpenMMLab package is imported here."""

from hordet.layers.depthwise import DepthwiseConv2d
from hordet.layers.global_filter import GlobalLocalFilter
from hordet.layers.gn_fusion import GnFusion
from hordet.layers.gnconv import GnConv
from hordet.layers.norm import LayerNorm2d
from hordet.layers.weighted_sum import WeightedSum

__all__ = [
    "DepthwiseConv2d",
    "GlobalLocalFilter",
    "GnConv",
    "GnFusion",
    "LayerNorm2d",
    "WeightedSum",
]
