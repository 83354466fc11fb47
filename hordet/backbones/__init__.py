"""Backbones: picture -> feature pyramid."""

from hordet.backbones.hornet import HorNet
from hordet.backbones.timm_backbone import TimmBackbone

__all__ = ["HorNet", "TimmBackbone"]
