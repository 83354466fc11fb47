"""The checkpoint that a killed run goes on from: the newest that verifies."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from hordet.checkpoints.load import load_checkpoint, read_stated_sums
from hordet.errors import CheckpointError

# mmengine's pointer to the checkpoint that was written last.
POINTER = "last_checkpoint"


def find_newest_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """Find the newest checkpoint of a run that is whole and can be resumed from.

    Args:
        folder: The work folder. What its `last_checkpoint` names comes first, then the others by
            the time they were written; the best ones (`best_*`) hold no optimizer and are no
            candidates.

    Returns:
        The file, None in a folder without any; and a line for each newer one that was skipped.

    Raises:
        CheckpointError: There are checkpoints and none can be used; the message says why each.
    """
    skipped = []
    for path in _candidates(Path(folder)):
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


def require_resumable(path: Path) -> None:
    """Raise unless a checkpoint is whole and holds the state of a training.

    A folder, as DeepSpeed and sharded training write, is left to those who read it.

    Raises:
        CheckpointError: It is damaged, refused, or holds weights alone.
    """
    if path.is_dir():
        return
    checkpoint = load_checkpoint(path)
    lacking = [key for key in ("state_dict", "meta", "message_hub") if key not in checkpoint]
    if "optimizer" not in checkpoint:
        lacking.append("optimizer")
    if lacking:
        raise CheckpointError(
            f"{path} holds no {', '.join(lacking)}: weights to start from (load_from in the "
            "config), not a training to resume"
        )
    # A file with a sum beside it was compared with that; torch.load reads past flipped bits.
    if not read_stated_sums(path) and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong:
            raise CheckpointError(f"{path} is damaged: its part {wrong} fails its CRC-32")


def _candidates(folder: Path) -> Iterator[Path]:
    pointed = _pointed(folder)
    folders = {folder, pointed.parent} if pointed else {folder}  # `out_dir` may lie elsewhere
    files = [file for each in folders for file in each.glob("*.pth")]
    files = [file for file in files if not file.name.startswith("best_")]
    written = {file: file.stat().st_mtime_ns for file in files if file != pointed}
    if pointed is not None:
        yield pointed
    yield from sorted(written, key=written.__getitem__, reverse=True)


def _pointed(folder: Path) -> Path | None:
    try:
        name = (folder / POINTER).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    # A moved work folder brings its files along.
    for path in (folder / Path(name).name, Path(name)):
        if name and path.exists():
            return path
    return None
