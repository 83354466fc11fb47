"""Where weights by name or by URL lie on this machine; nothing is fetched or opened here.

It imports no torch, so that commands can list what is here at once.
"""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hordet.checkpoints.weights import SHIPPED, Weights, find_weights
from hordet.errors import CheckpointError, DownloadError
from hordet.ops.files import locate_cache

# Of the folder that one works in: files that the user has put there.
BY_HAND = Path("pretrained")
WEB = ("http://", "https://")


def find_here(weights: Weights) -> Path | None:
    """Return the file of weights if it is on this machine: by hand, shipped, or in the cache."""
    if weights.is_shipped:
        return SHIPPED / weights.file
    for path in _list_by_hand(weights):
        if path.is_file():
            return path
    kept = locate(weights)
    return kept if kept.is_file() else None


def require_plain(weights: Weights) -> None:
    """Check that what is put there by hand under the name of weights is a file.

    Raises:
        CheckpointError: It is a folder, or a link to nothing.
    """
    paths = _list_by_hand(weights)
    odd = [path for path in paths if path.is_symlink() or path.exists()]
    if odd and not any(path.is_file() for path in paths):
        kind = "a folder" if odd[0].is_dir() else "a link to nothing, or no file"
        raise CheckpointError(
            f"{odd[0]} is {kind}; the file of {weights.name} is looked for there. Put the file "
            "there, or remove it"
        )


def _list_by_hand(weights: Weights) -> list[Path]:
    stem = Path(weights.file).stem
    return [BY_HAND / name for name in (weights.file, f"{stem}.pth", f"{stem}.safetensors")]


def is_at_hand(checkpoint: str) -> bool:
    """Tell whether a checkpoint can be had without the internet: from here, or from a mirror.

    Raises:
        DownloadError: As `read_mirror`.
        CheckpointError: As `require_plain`.
    """
    if checkpoint.startswith(WEB):
        return locate_url(checkpoint).is_file()
    weights = find_weights(checkpoint)
    require_plain(weights)
    if find_here(weights) is not None:
        return True
    mirror = read_mirror()
    return bool(mirror) and not (is_offline() and is_url(mirror))


def read_mirror() -> str:
    """Return HORDET_MIRROR, a URL or a folder, or '' if there is none.

    Raises:
        DownloadError: It is neither.
    """
    given = os.environ.get("HORDET_MIRROR", "").strip()
    folder = os.path.expanduser(given)
    if not given or is_url(given):
        return given
    if os.path.isdir(folder):
        return folder
    if given.lower().startswith(WEB):
        problem = "this URL names no server"
    elif "://" in given:
        problem = "only http, https and folders can be asked"
    elif os.path.exists(folder):
        problem = "this is a file, not a folder"
    else:
        problem = "there is no such folder, and a URL begins with http:// or https://"
    shown = re.sub("//[^/]*@", "//", given)  # without a password
    raise DownloadError(
        f"HORDET_MIRROR is {shown!r}: {problem}. Set it to a folder, as /mnt/weights, or to a URL, "
        "as https://example.org/weights; or unset it, and the sources are asked"
    )


def is_url(given: str) -> bool:
    """Tell whether a text is the address of a server by http or https."""
    try:
        return given.lower().startswith(WEB) and bool(urlsplit(given).hostname)
    except ValueError:  # such as of brackets that are not closed
        return False


def describe_cure(path: Path) -> str:
    """Say how a faulty file of the cache is fetched again; '' for files elsewhere."""
    cache = locate_cache()
    if path.parent == cache / "weights":
        return f"`hordet weights rm {path.stem}` removes it; the next use fetches it again"
    if path.is_relative_to(cache / "downloads"):
        return f"Remove {path.parent}; the next use fetches it again"
    return ""


def locate(weights: Weights) -> Path:
    """Return where the cache keeps weights; the file may not be there."""
    return locate_cache() / "weights" / f"{weights.name}.safetensors"


def locate_url(url: str) -> Path:
    """Return where the cache keeps the file of a URL; each URL has a place of its own."""
    url = url.partition("#")[0]
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    name = PurePosixPath(urlsplit(url).path).name or "checkpoint.pth"
    return locate_cache() / "downloads" / digest / name


def is_offline() -> bool:
    """Tell whether nothing may be fetched: HORDET_OFFLINE is set to anything but 0 or nothing."""
    return os.environ.get("HORDET_OFFLINE", "0").lower() not in ("", "0", "false", "no")
