"""The layers under their names in the registry; they themselves know torch alone.

`dict(type='hordet.GnConv', ...)` builds one, and `norm_cfg=dict(type='hordet.LayerNorm2d')` is a
norm for every component of mmdet and mmseg that takes one.
"""

from hordet.layers import GlobalLocalFilter, GnConv, GnFusion, LayerNorm2d
from hordet.registry import MODELS

for layer in (GlobalLocalFilter, GnConv, GnFusion, LayerNorm2d):
    MODELS.register_module(module=layer)
