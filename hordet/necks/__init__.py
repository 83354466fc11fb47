"""Necks: feature pyramid -> feature pyramid."""

from hordet.necks.hor_fpn import HorFPN

__all__ = ["HorFPN"]
