"""Opening checkpoints safely, filling models from them, renaming and writing them."""

from hordet.checkpoints.backend import WHOLE_FILES
from hordet.checkpoints.convert import SOURCES, TARGETS, Conversion, convert, wrapped
from hordet.checkpoints.coverage import Coverage, CoverageHook, fill, load_weights, require
from hordet.checkpoints.hook import CheckpointHook
from hordet.checkpoints.load import (
    CheckpointError,
    CheckpointWarning,
    CheckpointWriteError,
    install,
    load_checkpoint,
    require_sha256,
    sha256_of,
    split_sha256,
    trust_pickle,
)
from hordet.checkpoints.newest import newest_checkpoint, require_resumable
from hordet.checkpoints.save import check_destination, save_checkpoint
from hordet.checkpoints.shards import gathered, sharded_like

__all__ = [
    "SOURCES",
    "TARGETS",
    "WHOLE_FILES",
    "CheckpointError",
    "CheckpointHook",
    "CheckpointWarning",
    "CheckpointWriteError",
    "Conversion",
    "Coverage",
    "CoverageHook",
    "check_destination",
    "convert",
    "fill",
    "gathered",
    "install",
    "load_checkpoint",
    "load_weights",
    "newest_checkpoint",
    "require",
    "require_resumable",
    "require_sha256",
    "save_checkpoint",
    "sha256_of",
    "sharded_like",
    "split_sha256",
    "trust_pickle",
    "wrapped",
]
