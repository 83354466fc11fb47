"""Backbones: picture -> feature pyramid."""

from hordet.backbones.hornet import HorNet

__all__ = ["HorNet"]
