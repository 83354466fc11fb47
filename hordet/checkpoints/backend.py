"""Where a training writes its checkpoints: mmengine's local files, but whole and in order."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend

from hordet.checkpoints.load import SUM_SUFFIX
from hordet.checkpoints.save import write_verified
from hordet.ops.files import write_whole

# mmengine's `backend_args` that choose it.
WHOLE_FILES = {"backend": "hordet.checkpoint_files"}


class FileQueue:
    """Does things to files one after another, removals last.

    Args:
        asynchronous: In a thread beside the training. Its next piece waits for the one before, so
            that at most one checkpoint is held in memory.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        """Start the thread if one is asked for."""
        self._thread = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._pending: list[Future] = []
        self._failure: Exception | None = None
        self._removals: list[Path] | None = None

    def write(self, path: Path, content: bytes, *, verified: bool = True) -> None:
        """Write a file, with its SHA-256 beside it if it is to be verified."""
        self._do(write_verified if verified else write_whole, path, content)

    def remove(self, path: Path) -> None:
        """Remove a file and its SHA-256, within `removals_last` at its end."""
        if self._removals is None:
            self._do(_remove, path)
        else:
            self._removals.append(path)

    @contextmanager
    def removals_last(self) -> Iterator[None]:
        """Keep what is to be removed until all that is to be written is there."""
        self._removals = []
        try:
            yield
            removals = self._removals
        finally:
            self._removals = None
        for path in removals:
            self.remove(path)

    def wait(self) -> None:
        """Wait until everything is done.

        Raises:
            FileWriteError: Something could not be written; what was to follow it, such as
                the removal of what it replaces, was left out.
        """
        for piece in self._pending:
            piece.result()
        self._pending.clear()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _do(self, action: Callable, *arguments: Any) -> None:
        if self._thread is None:
            action(*arguments)
            return
        if action is write_verified:
            self.wait()
        self._pending.append(self._thread.submit(self._unless_failed, action, *arguments))

    def _unless_failed(self, action: Callable, *arguments: Any) -> None:
        if self._failure is None:
            try:
                action(*arguments)
            except Exception as error:  # raised in the training's thread, by `wait`
                self._failure = error


@cache
def get_file_queue(asynchronous: bool) -> FileQueue:
    """Return the process's one queue of its kind: mmengine makes a backend for every file."""
    return FileQueue(asynchronous)


class CheckpointFiles(LocalBackend):
    """mmengine's local files, written through the process's queue."""

    def __init__(self, asynchronous: bool = False) -> None:
        """Write and remove in this thread, or in one beside it."""
        super().__init__()
        self._queue = get_file_queue(asynchronous)

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a checkpoint whole, with its SHA-256 beside it."""
        self._queue.write(Path(filepath), obj)

    def remove(self, filepath: str | Path) -> None:
        """Remove a checkpoint and its SHA-256."""
        self._queue.remove(Path(filepath))


register_backend(WHOLE_FILES["backend"], CheckpointFiles, force=True)


def _remove(path: Path) -> None:
    # First the checkpoint: a sum without its file misleads nobody.
    path.unlink(missing_ok=True)
    path.with_name(path.name + SUM_SUFFIX).unlink(missing_ok=True)
