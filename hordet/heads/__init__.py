"""Heads: feature pyramid -> prediction."""

from hordet.heads.hor_uper_head import HorUPerHead

__all__ = ["HorUPerHead"]
