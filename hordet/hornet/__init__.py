"""HorNet in plain PyTorch: no package of OpenMMLab is imported here."""

from hordet.hornet.block import Block
from hordet.hornet.model import HorNet

__all__ = ["Block", "HorNet"]
