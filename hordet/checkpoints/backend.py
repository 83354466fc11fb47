"""mmengine's file backend for checkpoints: each is written whole, and removals come last."""

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

# The `backend_args` of mmengine that choose this backend.
WHOLE_FILES = {"backend": "hordet.checkpoint_files"}


class FileQueue:
    """Writes and removes files one after another.

    Args:
        asynchronous: Work in a thread beside the training. A new checkpoint waits until the one
            before is written, so at most one checkpoint is held in memory.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        """Start the thread if one is asked for."""
        self._thread = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._pending: list[Future] = []
        self._failure: Exception | None = None
        self._removals: list[Path] | None = None

    def write(self, path: Path, content: bytes, *, verified: bool = True) -> None:
        """Write a file, with its SHA-256 beside it if `verified`."""
        self._run(write_verified if verified else write_whole, path, content)

    def remove(self, path: Path) -> None:
        """Remove a file and its SHA-256; within `defer_removals` only at its end."""
        if self._removals is None:
            self._run(_remove, path)
        else:
            self._removals.append(path)

    @contextmanager
    def defer_removals(self) -> Iterator[None]:
        """Remove files only after everything in the block is written."""
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
            FileWriteError: A file could not be written. Everything after it was skipped, such as
                the removal of the file that it replaces.
        """
        for future in self._pending:
            future.result()
        self._pending.clear()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self, action: Callable, *arguments: Any) -> None:
        if self._thread is None:
            action(*arguments)
            return
        if action is write_verified:
            self.wait()
        self._pending.append(self._thread.submit(self._run_unless_failed, action, *arguments))

    def _run_unless_failed(self, action: Callable, *arguments: Any) -> None:
        if self._failure is None:
            try:
                action(*arguments)
            except Exception as error:  # raised in the training's thread, by `wait`
                self._failure = error


@cache
def get_file_queue(asynchronous: bool) -> FileQueue:
    """Return the one queue of the process; mmengine makes a new backend for each file."""
    return FileQueue(asynchronous)


class CheckpointFiles(LocalBackend):
    """mmengine's backend of local files, with the process's queue for writing and removing."""

    def __init__(self, asynchronous: bool = False) -> None:
        """Write and remove in this thread, or in a thread beside it if `asynchronous`."""
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
    # The checkpoint first: a sum without its file does no harm.
    path.unlink(missing_ok=True)
    path.with_name(path.name + SUM_SUFFIX).unlink(missing_ok=True)
