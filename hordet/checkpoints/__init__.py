"""Opening checkpoints safely and filling models from them."""

from hordet.checkpoints.coverage import Coverage, CoverageHook, load_weights
from hordet.checkpoints.load import CheckpointError, install, load_checkpoint

__all__ = [
    "CheckpointError",
    "Coverage",
    "CoverageHook",
    "install",
    "load_checkpoint",
    "load_weights",
]
