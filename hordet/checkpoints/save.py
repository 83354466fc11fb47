"""Writing a checkpoint so that a crash, a full disk or a typing error loses nothing.

A file is written by `write_whole`. Beside `NAME` lies
`NAME.sha256`, in the form of sha256sum, so `sha256sum --check NAME.sha256` verifies it anywhere.
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
        FileWriteError: As `write_whole`.
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
    write = write_verified if read_stated_sums(path) else write_whole
    write(path, content)
    return digest


def write_verified(path: str | Path, content: bytes) -> str:
    """Write a file and its `.sha256`; a kill at any moment leaves a pair that verifies.

    While a file is replaced, its `.sha256` names both the old and the new one.

    Returns:
        The SHA-256.

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
    """Remove the unfinished files that a killed process left in a folder."""
    for file in folder.glob(".*"):
        if re.fullmatch(r"\..+\.\d+\.(pth|safetensors|sha256)|\.last_checkpoint\.\d+", file.name):
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
