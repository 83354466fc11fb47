"""Heads: feature pyramid -> prediction."""

from hordet.heads.eseg_head import ESegHead
from hordet.heads.hor_uper_head import HorUPerHead
from hordet.heads.lraspp_head import LRASPPHead
from hordet.heads.rle_mask_head import RleMaskHead

__all__ = ["ESegHead", "HorUPerHead", "LRASPPHead", "RleMaskHead"]
