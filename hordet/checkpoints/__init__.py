"""Opening checkpoints safely, filling models from them, renaming and writing them."""

from hordet.checkpoints.convert import SOURCES, TARGETS, Conversion, convert, wrapped
from hordet.checkpoints.coverage import Coverage, CoverageHook, fill, load_weights, require
from hordet.checkpoints.load import (
    CheckpointError,
    install,
    load_checkpoint,
    require_sha256,
    sha256_of,
    split_sha256,
)
from hordet.checkpoints.save import check_destination, save_checkpoint

__all__ = [
    "SOURCES",
    "TARGETS",
    "CheckpointError",
    "Conversion",
    "Coverage",
    "CoverageHook",
    "check_destination",
    "convert",
    "fill",
    "install",
    "load_checkpoint",
    "load_weights",
    "require",
    "require_sha256",
    "save_checkpoint",
    "sha256_of",
    "split_sha256",
    "wrapped",
]
