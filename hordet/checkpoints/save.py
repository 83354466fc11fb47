"""Writing a checkpoint so that a crash, a full disk or a typing error loses nothing."""

import os
from pathlib import Path

import torch
from safetensors.torch import save

from hordet.checkpoints.load import CheckpointError, require_sha256, sha256_of

SUFFIXES = (".pth", ".safetensors")


def save_checkpoint(
    checkpoint: dict, path: str | Path, *, overwrite: bool = False, sha256: str | None = None
) -> str:
    """Write a checkpoint atomically: under a passing name, flushed to the disk, then renamed.

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
        OSError: The disk is full or the folder cannot be written to; nothing is left behind.
    """
    path = Path(path).expanduser()
    check_destination(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with passing.open("xb") as file:
            if path.suffix == ".safetensors":
                # It refuses tensors that share memory or do not lie in order.
                tensors = {k: t.detach().contiguous().clone() for k, t in checkpoint.items()}
                file.write(save(tensors, metadata={"format": "pt"}))
            else:
                torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        digest = sha256_of(passing)
        if sha256:
            require_sha256(digest, sha256, f"{path} (not written)")
        os.replace(passing, path)
    finally:
        passing.unlink(missing_ok=True)
    return digest


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
