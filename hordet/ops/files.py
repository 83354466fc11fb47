"""A file written whole or not at all, by whatever writes one; light, for any room may need it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hordet.errors import FileWriteError


def write_whole(path: str | Path, content: bytes | bytearray | memoryview | str) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it.

    Args:
        path: The file; its folder is made, and a file that is there is replaced.
        content: What it holds; text is written in UTF-8.

    Raises:
        FileWriteError: The disk is full or the folder cannot be written to; nothing is left behind
            and what was there is whole. The message says how much is needed.
    """
    data = content.encode() if isinstance(content, str) else content
    with _in_words(Path(path), len(data)), replace_whole(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replace_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name to write to; at the end the file takes its place, flushed to the disk.

    Args:
        path: The file; its folder is made, and a file that is there is replaced. After an error
            inside it is left as it was.

    Yields:
        The temporary name, beside `path` and with its suffix.

    Raises:
        FileWriteError: The folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with _in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with _in_words(path):
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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


@contextmanager
def _in_words(path: Path, needed: int = 0) -> Iterator[None]:
    """Say why a file cannot be written, and that nothing is lost."""
    try:
        yield
    except FileWriteError:
        raise
    except OSError as error:
        folder = path.absolute().parent
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        wanted = f"It needs {needed:,} bytes, and {folder}" if needed else f"{folder}"
        raise FileWriteError(
            f"cannot write {path}: {error.strerror or error}. {wanted} has {free:,} bytes free. "
            "No file that was there is touched. Make room or allow writing, or name another folder"
        ) from error
