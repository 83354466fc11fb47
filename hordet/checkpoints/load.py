"""Opening a checkpoint file without running any code that it may hold.

A `.pth` file is a pickle, and an ordinary unpickler calls whatever the file names. Here only
tensors, numbers, strings, containers and the few classes below are built; anything else is an error
that names it. mmengine's own training checkpoints open, so a run can be resumed.
"""

import argparse
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

# The statistics whose names mmengine writes into every training checkpoint.
_STATISTICS = ("min", "max", "current", "mean")


class CheckpointError(Exception):
    """A checkpoint that cannot be opened, or that does not belong to the model."""


def _getattr_of_history_buffer(owner: object, name: str) -> Callable:
    """Stand in for `builtins.getattr` while unpickling, which may reach four methods only."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise pickle.UnpicklingError(f"GLOBAL builtins.getattr({owner!r}, {name!r}) is refused")
    return getattr(HistoryBuffer, name)


def _allowed() -> list:
    """Return what mmengine's checkpoints need beyond tensors: log histories and numpy values."""
    allowed: list = [HistoryBuffer, (_getattr_of_history_buffer, "builtins.getattr")]
    # Scripts of the DeiT and ConvNeXt family keep their parsed arguments; a plain record.
    allowed.append(argparse.Namespace)
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    for package in ("numpy.core", "numpy._core"):  # the name before and since numpy 2
        for function in (multiarray._reconstruct, multiarray.scalar):
            allowed.append((function, f"{package}.multiarray.{function.__name__}"))
    allowed += [np.ndarray, np.dtype]
    allowed += [type(np.dtype(code)) for code in "?bhilqBHILQefdFDUS"]
    return allowed


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Load a `.pth` or `.safetensors` file; no code in it is run.

    Args:
        path: The file.
        map_location: Where tensors go, as in `torch.load`.

    Returns:
        What the file holds; a bare state dict, or a dict with `state_dict` and more beside it.

    Raises:
        CheckpointError: The file is missing, truncated, no checkpoint, or holds pickled code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        found = f"; {path.parent} has {', '.join(near)}" if near else ""
        raise CheckpointError(f"no checkpoint file at {path}{found}")
    if path.suffix == ".safetensors":
        checkpoint = _load_safetensors(path, map_location)
    else:
        checkpoint = _load_pickle(path, map_location)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} holds a {type(checkpoint).__name__}, not a dict of tensors; "
            "save model.state_dict() instead of the model"
        )
    return checkpoint


def _load_safetensors(path: Path, map_location: Any) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(map_location or "cpu"))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file: {error}") from error


def _load_pickle(path: Path, map_location: Any) -> Any:
    with path.open("rb") as file:
        magic = file.read(2)
    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        # torch reports damage by many types (RuntimeError, EOFError, KeyError, struct.error, ...).
        refused = re.search(r"(?:GLOBAL|unrecognized function|but got) ([^\s,]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{path} holds pickled code: it asks for {refused[1]}, which is no tensor, number "
                "or container; nothing was run. Save model.state_dict() alone instead"
            ) from None
        if magic not in (b"PK", b"\x80\x02"):  # a zip of torch >= 1.6, or a bare pickle before it
            raise CheckpointError(
                f"{path} is not a checkpoint: it begins with {magic!r} and torch.save writes b'PK'"
            ) from error
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} ({size:,} bytes) is truncated or damaged; copy or download it again "
            f"({type(error).__name__})"
        ) from error


def install() -> None:
    """Make mmengine open checkpoints by `load_checkpoint`: resume, load_from and Pretrained alike.

    Called by the tools, never at import. Replaces mmengine's loaders of local and http(s) files.
    """
    CheckpointLoader.register_scheme("", load_from_local, force=True)
    CheckpointLoader.register_scheme(("http://", "https://"), load_from_http, force=True)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a file in the form that mmengine reads; its log prints what follows `load_from_`."""
    checkpoint = load_checkpoint(filename, map_location)
    # mmengine's resume executes this text as a Python config; runs of mmengine itself write `cfg`.
    if isinstance(checkpoint.get("meta"), dict):
        checkpoint["meta"].pop("config", None)
    # mmengine knows only this key; the authors of HorNet, Swin and ConvNeXt write `model`.
    if "state_dict" not in checkpoint and isinstance(checkpoint.get("model"), dict):
        checkpoint["state_dict"] = checkpoint.pop("model")
    return checkpoint


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Load a file from the network, by way of torch.hub's folder, as `load_from_local` does."""
    target = Path(torch.hub.get_dir()) / "checkpoints" / filename.rsplit("/", 1)[-1]
    if get_rank() == 0 and not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(target))
    barrier()
    return load_from_local(str(target), map_location)
