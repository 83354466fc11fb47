"""Opening a checkpoint file without running any code that it may hold.

A `.pth` file is a pickle, and an ordinary unpickler calls whatever the file names. Here only
tensors, numbers, strings, containers and the few classes below are built; anything else is an error
that names it. mmengine's own training checkpoints open, so a run can be resumed.
"""

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from hordet.errors import CheckpointError, CheckpointWarning

# The statistics whose names mmengine writes into every training checkpoint.
_STATISTICS = ("min", "max", "current", "mean")

# torch.load's own word; `trust_pickle` alone changes it.
_POLICY = {"weights_only": True}
# torch stores the parts of a zip as they are; beyond this share of the file they are packed or
# overlap, as in a bomb.
_LARGEST_SHARE = 1.5

# Behind the name of a file, it states the SHA-256 that the file must have, as in pip's URLs.
SHA256_MARK = "#sha256="
# The file beside a checkpoint that states its SHA-256, as sha256sum writes it.
SUM_SUFFIX = ".sha256"


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


def trust_pickle() -> None:
    """From now on let this process open checkpoints that run code of whoever wrote them.

    Warns:
        CheckpointWarning: Now, once.
    """
    _POLICY["weights_only"] = False
    warnings.warn(
        "--trust-pickle: checkpoints may run any code of whoever wrote them",
        CheckpointWarning,
        stacklevel=2,
    )


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Load a `.pth` or `.safetensors` file; no code in it is run.

    Where `PATH.sha256` lies beside the file, as a training writes it, the file must agree.

    Args:
        path: The file; with `#sha256=HEX` behind its name, only if it has that SHA-256. So a
            config can state which weights it means.
        map_location: Where tensors go, as in `torch.load`.

    Returns:
        What the file holds; a bare state dict, or a dict with `state_dict` and more beside it.

    Raises:
        CheckpointError: The file is missing, truncated, no checkpoint, not the stated one, or holds
            pickled code.
    """
    path, stated = split_sha256(path)
    path = path.expanduser()
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        found = f"; {path.parent} has {', '.join(near)}" if near else ""
        raise CheckpointError(f"no checkpoint file at {path}{found}")
    if stated:
        require_sha256(compute_sha256(path), stated, str(path))
    sums = read_stated_sums(path)
    if sums and compute_sha256(path) not in sums:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one in {path.name}{SUM_SUFFIX} beside it. "
            "Take another checkpoint; if you changed the file yourself, remove that file"
        )
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


def split_sha256(path: str | Path) -> tuple[Path, str | None]:
    """Split `FILE#sha256=HEX` into the file and the stated SHA-256, which is None if there is none.

    Raises:
        CheckpointError: What follows `#sha256=` is not 64 hexadecimal digits.
    """
    name, mark, digits = str(path).partition(SHA256_MARK)
    if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise CheckpointError(
            f"{path}: got {digits!r} behind {SHA256_MARK}; a SHA-256 has 64 hexadecimal digits, "
            "as sha256sum prints them"
        )
    return Path(name), digits.lower() or None


def read_stated_sums(path: Path) -> list[str]:
    """Return the SHA-256 sums in the `.sha256` beside a file; two while the file is replaced."""
    try:
        text = path.with_name(path.name + SUM_SUFFIX).read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}{SUM_SUFFIX} cannot be read: {error}") from error
    return re.findall(r"^[0-9a-f]{64}(?=  )", text, re.MULTILINE)


def compute_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_sha256(found: str, stated: str, source: str) -> None:
    """Raise unless a file has the SHA-256 that was stated for it.

    Raises:
        CheckpointError: It has another.
    """
    if found != stated.lower():
        raise CheckpointError(
            f"{source} has the SHA-256 {found}, and {stated} is stated: it is another file or a "
            "damaged one. Get the right one, or correct what is stated"
        )


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
        _refuse_bomb(path)
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location=map_location, **_POLICY)
    except CheckpointError:
        raise
    except Exception as error:
        # torch reports damage by many types (RuntimeError, EOFError, KeyError, struct.error, ...).
        refused = re.search(r"(?:GLOBAL|unrecognized function|but got) ([^\s,]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{path} holds pickled code: it asks for {refused[1]}, which is no tensor, number "
                "or container; nothing was run. Save model.state_dict() alone instead, or "
                "give --trust-pickle if you trust whoever wrote it"
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


def _refuse_bomb(path: Path) -> None:
    """Refuse a zip whose parts are larger than the file: unpacked they would fill the memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > _LARGEST_SHARE * path.stat().st_size:
        raise CheckpointError(
            f"{path} is refused: unpacked it is {unpacked:,} bytes, the file itself "
            f"{path.stat().st_size:,}; torch.save packs nothing, so this file was made to fill "
            "the memory"
        )


def use_safe_loading() -> None:
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
    url, mark, stated = filename.partition(SHA256_MARK)
    target = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if get_rank() == 0 and not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target))
    barrier()
    return load_from_local(f"{target}{mark}{stated}", map_location)
