"""Heads: feature pyramid -> prediction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "eseg_head": ["ESegHead"],
        "fcn_mask_head": ["FCNMaskHead"],
        "hor_uper_head": ["HorUPerHead"],
        "lraspp_head": ["LRASPPHead"],
        "rle_mask_head": ["RleMaskHead"],
        "targets": ["MaxIoUAssigner", "RandomSampler"],
    },
)
