"""Writes checkpoints so that a crash, a full disk or a wrong name destroys no other checkpoint.

Files are written by `write_whole`. A training writes `NAME.sha256` beside `NAME`, in the format of
sha256sum, so `sha256sum --check NAME.sha256` verifies a checkpoint anywhere.
"""

import hashlib
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from hordet.checkpoints.load import SUM_SUFFIX, read_stated_sums, require_sha256
from hordet.errors import CheckpointError
from hordet.ops.files import write_whole

SUFFIXES = (".pth", ".safetensors")


def save_checkpoint(
    checkpoint: dict, path: str | Path, *, overwrite: bool = False, sha256: str | None = None
) -> str:
    """Write a checkpoint completely or not at all.

    Args:
        checkpoint: What to write; for `.safetensors` a state dict.
        path: A `.pth` or `.safetensors` file; its folder is made.
        overwrite: Replace an existing file.
        sha256: The SHA-256 that the file must have, in hexadecimal digits.

    Returns:
        The SHA-256 of the file.

    Raises:
        CheckpointError: The suffix is unknown, the file exists, or it would have another SHA-256;
            nothing is written then.
        FileWriteError: As `write_whole`.
    """
    path = Path(path).expanduser()
    check_destination(path, overwrite)
    if path.suffix == ".safetensors":
        # safetensors refuses tensors that share memory or are not contiguous.
        tensors = {k: t.detach().contiguous().clone() for k, t in checkpoint.items()}
        content: Any = save(tensors, metadata={"format": "pt"})
    else:
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
    digest = hashlib.sha256(content).hexdigest()
    if sha256:
        require_sha256(digest, sha256, f"{path} (not written)")
    # A SHA-256 beside the old file must be replaced too.
    write = write_verified if read_stated_sums(path) else write_whole
    write(path, content)
    return digest


def write_verified(path: str | Path, content: bytes) -> str:
    """Write a file and its `.sha256`; a kill at any moment leaves two files that agree.

    While a file is replaced, its `.sha256` holds the sums of both the old and the new file.

    Returns:
        The SHA-256 of the file.

    Raises:
        FileWriteError: As `write_whole`.
    """
    path = Path(path)
    digest = hashlib.sha256(content).hexdigest()
    sums = path.with_name(path.name + SUM_SUFFIX)
    if path.exists():
        both = [digest, *read_stated_sums(path)]
        write_whole(sums, "".join(f"{each}  {path.name}\n" for each in both).encode())
    write_whole(path, content)
    write_whole(sums, f"{digest}  {path.name}\n".encode())
    return digest


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    for file in folder.glob(".*"):
        if re.fullmatch(r"\.(.+\.(pth|safetensors|sha256)|last_checkpoint)\.\d+", file.name):
            file.unlink(missing_ok=True)


def check_destination(path: str | Path, overwrite: bool = False) -> None:
    """Check that `save_checkpoint` may write to a path, before the content is computed.

    Raises:
        CheckpointError: The suffix is unknown, or the file exists and may not be overwritten.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: a checkpoint is written as {' or '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} is there already; choose another name or give --force")
