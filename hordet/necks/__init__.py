"""Necks: feature pyramid -> feature pyramid."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fusion_fpn": ["FusionFPN"],
        "graph_fpn": ["GraphFPN"],
        "hor_fpn": ["HorFPN"],
    },
)
