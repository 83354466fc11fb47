"""Heads: feature pyramid -> prediction."""

from hordet.heads.eseg_head import ESegHead
from hordet.heads.hor_uper_head import HorUPerHead
from hordet.heads.lraspp_head import LRASPPHead

__all__ = ["ESegHead", "HorUPerHead", "LRASPPHead"]
