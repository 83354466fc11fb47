"""One run a work folder: a second one would write its checkpoints over the first one's."""

import os
import socket
import time
from pathlib import Path
from typing import IO

from mmengine.dist import broadcast_object_list, is_main_process

from hordet.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: a work folder is not guarded there
    fcntl = None  # type: ignore[assignment]

NAME = ".running"
# By path; a lock ends with its process, however that ends. The file must stay open until then.
_held: dict[Path, IO[str]] = {}


def lock_work_dir(folder: str | Path, force: bool = False) -> None:
    """Reserve a work folder for this run until the process ends; every process must call it.

    The main process writes its number, machine and start into `.running` and holds a lock on it
    (`fcntl`, which other machines see on file systems that support it, such as NFS).

    Args:
        folder: Made if it is not there.
        force: Take no lock and look at none.

    Raises:
        ConfigError: In every process, if another run holds the folder; the message says which.
    """
    holder: list[str | None] = [None]
    if not force and fcntl is not None and is_main_process():
        holder = [_lock(Path(folder).absolute() / NAME)]
    broadcast_object_list(holder)
    if holder[0]:
        raise ConfigError(
            f"{folder} is in use by another run: {holder[0]}. Two runs would write over one "
            "another's checkpoints. Wait for it or end it, choose another --work-dir, or give "
            "--force if that run is surely gone"
        )


def _lock(path: Path) -> str | None:
    """Lock a file and write who holds it; if another process does, return what it wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path in _held:
        return None
    file = path.open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "who holds it is not known yet"
        file.close()
        return holder
    file.truncate(0)
    start = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {start}\n")
    file.flush()
    _held[path] = file
    return None
