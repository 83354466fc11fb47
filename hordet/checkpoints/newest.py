"""Finds the checkpoint from which a killed run continues: the newest that is whole."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from hordet.checkpoints.load import load_checkpoint, read_stated_sums
from hordet.errors import CheckpointError

# The file in which mmengine names the checkpoint that was written last.
POINTER = "last_checkpoint"


def find_newest_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """Find the newest checkpoint from which a run can be resumed.

    Args:
        folder: The work folder. The checkpoint that `last_checkpoint` names comes first, then the
            others, newest first. The best ones (`best_*`) have no optimizer and are ignored.

    Returns:
        The file, or None if there are no checkpoints; and a line for each that was skipped.

    Raises:
        CheckpointError: None of the checkpoints can be used; the message says why.
    """
    skipped = []
    for path in list_newest_first(Path(folder)):
        try:
            require_resumable(path)
        except CheckpointError as error:
            skipped.append(f"skipped {path.name}: {error}")
        else:
            return path, skipped
    if skipped:
        raise CheckpointError(
            f"no checkpoint in {folder} can be resumed from:\n  " + "\n  ".join(skipped) + "\n"
            "To start anew, name another --work-dir or move these files away"
        )
    return None, []


def list_newest_first(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints of a folder: the one of `last_checkpoint`, then the newest first.

    Args:
        folder: A work folder. Its best checkpoints (`best_*`) are left out.
    """
    pointed = _read_pointer(folder)
    folders = {folder, pointed.parent} if pointed else {folder}  # `out_dir` may lie elsewhere
    files = [file for each in folders for file in each.glob("*.pth")]
    files = [file for file in files if not file.name.startswith("best_")]
    written = {file: file.stat().st_mtime_ns for file in files if file != pointed}
    if pointed is not None:
        yield pointed
    yield from sorted(written, key=written.__getitem__, reverse=True)


def require_resumable(path: Path) -> None:
    """Check that a checkpoint is whole and holds the state of a training.

    Folders, as DeepSpeed writes them, are not checked.

    Raises:
        CheckpointError: It is damaged, is refused, or holds only weights.
    """
    if path.is_dir():
        return
    checkpoint = load_checkpoint(path)
    lacking = [key for key in ("state_dict", "meta", "message_hub") if key not in checkpoint]
    if "optimizer" not in checkpoint:
        lacking.append("optimizer")
    if lacking:
        raise CheckpointError(
            f"{path} holds no {', '.join(lacking)}: a training can start from its weights "
            "(load_from in the config), but cannot be resumed from it"
        )
    # Without a SHA-256 beside the file, its CRC-32 is checked: torch.load ignores flipped bits.
    if not read_stated_sums(path) and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong:
            raise CheckpointError(f"{path} is damaged: its part {wrong} fails its CRC-32")


def _read_pointer(folder: Path) -> Path | None:
    """Return the checkpoint that `last_checkpoint` names, or None."""
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    # In the folder itself first: the work folder may have been moved.
    for path in (folder / Path(name).name, Path(name)):
        if name and path.exists():
            return path
    return None
