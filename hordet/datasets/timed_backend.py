"""Reading from storage that may hang: a file backend with a time limit."""

import threading
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.fileio.backends import BaseStorageBackend


class TimedBackend(BaseStorageBackend):
    """Any backend of mmengine, whose reads raise TimeoutError when they take too long.

    A network file system that is gone lets a read hang for ever, and a training with it. Give a
    loading transform `backend_args=dict(backend="hordet.timed", seconds=30)`; `TolerantDataset`
    then tries again, skips and counts.

    Args:
        seconds: How long a read may take.
        inner: `backend_args` of the backend that reads; the local file system by default.
    """

    def __init__(self, seconds: float = 60.0, inner: dict | None = None) -> None:
        """See the class."""
        self.seconds = seconds
        self._inner = get_file_backend(backend_args=dict(inner)) if inner else LocalBackend()

    def get(self, filepath: str | Path) -> bytes:
        """Read a file.

        Raises:
            TimeoutError: It takes longer than `seconds`; the thread that hangs is left behind.
        """
        return self._within_time("get", filepath)

    def get_text(self, filepath: str | Path, encoding: str = "utf-8") -> str:
        """Read a text file; raises as `get`."""
        return self.get(filepath).decode(encoding)

    def _within_time(self, method: str, filepath: str | Path) -> Any:
        result: list = []

        def read() -> None:
            try:
                result.append((getattr(self._inner, method)(filepath), None))
            except Exception as error:  # raised again by the thread that asked
                result.append((None, error))

        # A daemon: at the end of the process nobody waits for it.
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(self.seconds)
        if not result:
            raise TimeoutError(
                f"{filepath} was not read within {self.seconds:g} s; the storage hangs or is gone"
            )
        content, error = result[0]
        if error is not None:
            raise error
        return content


register_backend("hordet.timed", TimedBackend, force=True)
