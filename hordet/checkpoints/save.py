"""Writing a checkpoint so that a crash, a full disk or a typing error loses nothing.

A file is written under a passing name, flushed to the disk and renamed. Beside `NAME` lies
`NAME.sha256`, in the form of sha256sum, so `sha256sum --check NAME.sha256` verifies it anywhere.
"""

import hashlib
import os
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from hordet.checkpoints.load import SUM_SUFFIX, read_stated_sums, require_sha256
from hordet.errors import CheckpointError, CheckpointWriteError

SUFFIXES = (".pth", ".safetensors")


def save_checkpoint(
    checkpoint: dict, path: str | Path, *, overwrite: bool = False, sha256: str | None = None
) -> str:
    """Write a checkpoint whole or not at all.

    Args:
        checkpoint: What to write; for `.safetensors` a bare state dict.
        path: A `.pth` or `.safetensors` file; its folder is made.
        overwrite: Replace a file that is there.
        sha256: What the SHA-256 of the file must become, in hexadecimal digits.

    Returns:
        The SHA-256 of the file.

    Raises:
        CheckpointError: The ending is unknown, the file is there, or its SHA-256 would be another;
            nothing is written then.
        CheckpointWriteError: As `write_file`.
    """
    path = Path(path).expanduser()
    check_destination(path, overwrite)
    if path.suffix == ".safetensors":
        # It refuses tensors that share memory or do not lie in order.
        tensors = {k: t.detach().contiguous().clone() for k, t in checkpoint.items()}
        content: Any = save(tensors, metadata={"format": "pt"})
    else:
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
    digest = hashlib.sha256(content).hexdigest()
    if sha256:
        require_sha256(digest, sha256, f"{path} (not written)")
    # A sum that lies beside the file from before must not speak of another one.
    write = write_verified if read_stated_sums(path) else write_file
    write(path, content)
    return digest


def write_verified(path: str | Path, content: bytes) -> str:
    """Write a file and its `.sha256`; a kill at any moment leaves a pair that verifies.

    While a file is replaced, its `.sha256` names both the old and the new one.

    Returns:
        The SHA-256.

    Raises:
        CheckpointWriteError: As `write_file`.
    """
    path = Path(path)
    digest = hashlib.sha256(content).hexdigest()
    sums = path.with_name(path.name + SUM_SUFFIX)
    if path.exists():
        both = [digest, *read_stated_sums(path)]
        write_file(sums, "".join(f"{each}  {path.name}\n" for each in both).encode())
    write_file(path, content)
    write_file(sums, f"{digest}  {path.name}\n".encode())
    return digest


def write_file(path: Path, content: bytes) -> None:
    """Write bytes under a passing name, flush them to the disk, then rename.

    Args:
        path: The file; its folder is made, and a file that is there is replaced.
        content: What it holds.

    Raises:
        CheckpointWriteError: The disk is full or the folder cannot be written to; nothing is left
            behind and what was there is whole. The message says how much is needed.
    """
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with passing.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(passing, path)
            _flush_folder(path.parent)
        finally:
            passing.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointWriteError(_why_not_written(path, len(content), error)) from error


def remove_passing(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in a folder."""
    for file in folder.glob(".*"):
        if re.fullmatch(r"\.(.+\.(pth|safetensors|sha256)|last_checkpoint)\.\d+", file.name):
            file.unlink(missing_ok=True)


def check_destination(path: str | Path, overwrite: bool = False) -> None:
    """Check that `save_checkpoint` may write to a path, before work goes into what to write.

    Raises:
        CheckpointError: The ending is unknown, or the file is there and is not to be overwritten.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: a checkpoint is written as {' or '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} is there already; choose another name or give --force")


def _flush_folder(folder: Path) -> None:
    """Bring a rename to the disk; file systems without that operation are left to themselves."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _why_not_written(path: Path, needed: int, error: OSError) -> str:
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return (
        f"cannot write {path}: {error.strerror or error}. It needs {needed:,} bytes, and {folder} "
        f"has {free:,} free. No file that was there is touched. Make room or allow writing, or "
        "name another folder"
    )
