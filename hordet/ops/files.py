"""Writes files completely or not at all. It imports little, because every room may use it."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hordet.errors import FileWriteError

# Errors of the system that more space does not mend.
_NOT_ALLOWED = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}


def locate_cache() -> Path:
    """Return the folder of what can be made again: HORDET_CACHE, or ~/.cache/hordet.

    A user without a home, as in many containers, has one in the temporary folder.
    """
    named = os.environ.get("HORDET_CACHE")
    if named:
        return Path(named).absolute()
    try:
        return Path.home() / ".cache" / "hordet"
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return Path(tempfile.gettempdir()) / f"hordet-{os.getuid()}"


def write_whole(path: str | Path, content: bytes | bytearray | memoryview | str) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it.

    Args:
        path: The file; its folder is made, and an existing file is replaced.
        content: The content; text is written in UTF-8.

    Raises:
        FileWriteError: The disk is full or the folder is not writable. An existing file is not
            changed, and no temporary file is left. The message says how many bytes are needed.
    """
    data = content.encode() if isinstance(content, str) else content
    path = Path(path)
    # Its suffix is not the file's, so nobody who lists such files finds an unfinished one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with explain_write_errors(path, len(data)), _replace(path, temporary):
        temporary.write_bytes(data)


@contextmanager
def replace_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name; the file written there is flushed to the disk and then renamed.

    Args:
        path: The file; its folder is made, and an existing file is replaced. If the block raises,
            an existing file is not changed.

    Yields:
        The temporary name, beside `path` and with its suffix.

    Raises:
        FileWriteError: The folder is not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with _replace(path, temporary):
        yield temporary


@contextmanager
def _replace(path: Path, temporary: Path) -> Iterator[None]:
    """Let a file be written under a temporary name, then flush it and put it in its place."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
        with explain_write_errors(path):
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush a rename to the disk; on file systems that cannot, do nothing."""
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
def explain_write_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """Replace errors of the system by a message on why a file cannot be written.

    Args:
        path: The file, for the message.
        needed: Bytes that it takes, if known.

    Raises:
        FileWriteError: The block raised an OSError.
    """
    try:
        yield
    except FileWriteError:
        raise
    except OSError as error:
        folder = path.absolute().parent
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        other = "name another folder"
        if path.absolute().is_relative_to(locate_cache()):
            other = "set the environment variable HORDET_CACHE to another folder"
        problem = f"cannot write {path}: {error.strerror or error}"
        if error.errno in _NOT_ALLOWED:
            raise FileWriteError(
                f"{problem}. No existing file was changed. Allow writing there, or {other}"
            ) from error
        free = shutil.disk_usage(folder).free
        wanted = f"It needs {needed:,} bytes, and {folder}" if needed else f"{folder}"
        raise FileWriteError(
            f"{problem}. {wanted} has {free:,} bytes free. "
            f"No existing file was changed. Free some space or allow writing, or {other}"
        ) from error
