"""Necks: feature pyramid -> feature pyramid."""

from hordet.necks.graph_fpn import GraphFPN
from hordet.necks.hor_fpn import HorFPN

__all__ = ["GraphFPN", "HorFPN"]
