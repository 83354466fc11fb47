"""Where weights by name or by URL lie on this machine; nothing is fetched or opened here.

It imports no torch, so that commands can list what is here at once.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hordet.checkpoints.weights import SHIPPED, Weights, find_weights
from hordet.ops.files import locate_cache

# Of the folder that one works in: files that the user has put there.
BY_HAND = Path("pretrained")
WEB = ("http://", "https://")


def find_here(weights: Weights) -> Path | None:
    """Return the file of weights if it is on this machine: by hand, shipped, or in the cache."""
    if weights.is_shipped:
        return SHIPPED / weights.file
    for name in (
        weights.file,
        *(Path(weights.file).stem + end for end in (".pth", ".safetensors")),
    ):
        if (BY_HAND / name).is_file():
            return BY_HAND / name
    kept = locate(weights)
    return kept if kept.is_file() else None


def is_at_hand(checkpoint: str) -> bool:
    """Tell whether a checkpoint can be had without the internet: from here, or from a mirror."""
    if checkpoint.startswith(WEB):
        return locate_url(checkpoint).is_file()
    return find_here(find_weights(checkpoint)) is not None or bool(os.environ.get("HORDET_MIRROR"))


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
