"""Backbones: picture -> feature pyramid."""

from hordet.backbones.hornet import HorNet
from hordet.backbones.timm_backbone import TimmBackbone
from hordet.backbones.torchvision_backbone import TorchvisionBackbone

__all__ = ["HorNet", "TimmBackbone", "TorchvisionBackbone"]
