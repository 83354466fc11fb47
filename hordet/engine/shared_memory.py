"""The memory through which loader workers hand over their batches."""

import multiprocessing.util
import os
import shutil
import tempfile
import warnings
from pathlib import Path

from hordet.datasets.roots import LOADERS
from hordet.errors import DatasetError, DatasetWarning

FOLDER = Path("/dev/shm")
# Seconds until a loader whose workers hang ends with a message: where shared memory is full, a
# worker's batch never comes, and torch would wait for ever.
PATIENCE = 600
# Bytes a worker: without these not even batches of small images pass; with less than those, batches
# of eight images of 1333 x 800 do not, of which each worker has two on their way.
_LEAST, _USUAL = 1 << 20, 2 * 8 * 3 * 1333 * 800
# The longest path of a socket, of the system that allows the least, and what follows TMPDIR in it.
_LONGEST, _SOCKET = 103, "/pymp-01234567/listener-01234567"


def limit_waiting(cfg: dict) -> None:
    """Let loaders with workers end after PATIENCE seconds without a batch, unless they say else.

    Args:
        cfg: A config, changed in place.
    """
    for key in LOADERS:
        loader = cfg.get(key)
        if loader and loader.get("num_workers"):
            loader.setdefault("timeout", PATIENCE)


def check_shared_memory(cfg: dict) -> None:
    """Check that workers have shared memory for their batches.

    Args:
        cfg: A config.

    Raises:
        DatasetError: There is next to none.

    Warns:
        DatasetWarning: There is little.
    """
    workers = _count_workers(cfg)
    if not workers or not FOLDER.is_dir():
        return
    free = shutil.disk_usage(FOLDER).free
    cure = (
        f"Free some ({FOLDER} may hold files of runs that were killed), start a container with "
        "--shm-size=8g, or set num_workers=0 and persistent_workers=False of the loaders"
    )
    words = f"{FOLDER}, through which {workers} loader workers hand over batches, has"
    if free < _LEAST * workers:
        raise DatasetError(f"{words} {free:,} bytes free, so training would hang. {cure}")
    if free < _USUAL * workers:
        warnings.warn(
            f"{words} {free / 2**20:.0f} MiB free; batches of large images may not fit. {cure}",
            DatasetWarning,
            stacklevel=2,
        )


def share_temporary_folder(cfg: dict) -> None:
    """Let loader workers use the temporary folder of this process, which removes it as it ends.

    A worker would make one of its own for the sockets by which batches are handed over, and that of
    a worker that is ended by a signal would stay. Where TMPDIR is too long for the path of a socket
    the folder lies in /tmp, as in Python 3.14; before, no batch would ever arrive.

    Args:
        cfg: A config.

    Raises:
        DatasetError: TMPDIR is too long, and /tmp cannot be written.
    """
    if not _count_workers(cfg):
        return
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary + _SOCKET)) <= _LONGEST:
        multiprocessing.util.get_temp_dir()
        return
    try:
        tempfile.tempdir = "/tmp"
        multiprocessing.util.get_temp_dir()
    except OSError as error:
        raise DatasetError(
            f"the temporary folder {temporary} is too long for the sockets of loader workers, and "
            f"/tmp cannot be used: {error}. Set TMPDIR to a folder of at most "
            f"{_LONGEST - len(_SOCKET)} characters, or num_workers=0 and persistent_workers=False"
        ) from error
    finally:
        tempfile.tempdir = temporary


def _count_workers(cfg: dict) -> int:
    """Return the largest number of workers of a loader."""
    return max((cfg[key].get("num_workers", 0) for key in LOADERS if cfg.get(key)), default=0)
