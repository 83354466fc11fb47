"""Loads a checkpoint file without running code that it may hold.

A `.pth` file is a pickle, and an ordinary unpickler calls whatever the file names. Here only
tensors, numbers, strings, containers and the few classes below are built; anything else is an error
that names it. mmengine's own training checkpoints can be loaded, so a run can be resumed.
"""

import argparse
import codecs
import hashlib
import importlib
import mmap
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from hordet.checkpoints.places import describe_cure
from hordet.checkpoints.weights import PREFIX, suggest_name
from hordet.errors import CheckpointError, CheckpointWarning

# The statistics whose names mmengine writes into every training checkpoint.
_STATISTICS = ("min", "max", "current", "mean")

# The option of torch.load; only `trust_pickle` changes it.
_POLICY = {"weights_only": True}
# torch does not compress the parts of a zip. Parts beyond this share of the file are compressed or
# overlap, as in a zip bomb.
_LARGEST_SHARE = 1.5
_BYTEARRAY = re.compile(rb"c(?:builtins|__builtin__)\nbytearray\n")  # as a pickle names it
# As of `sha256sum`, its `-b`, `--tag` and escaped forms, or the digits alone.
_SUM = re.compile(
    r"^(?:\\?([0-9a-f]{64})(?: [ *].+)?|SHA256 \(.*\) = ([0-9a-f]{64}))\s*$", re.MULTILINE | re.I
)
# Where a checkpoint has its tensors, unless it is a state dict itself.
_STATES = ("state_dict", "model", "ema_state_dict")
_LONGEST_SUMS = 1 << 16  # characters of a file of SHA-256 sums that are read
_LONGEST_BEGIN = 4096  # bytes of a file by which a text is told from a checkpoint

# After the name of a file comes the SHA-256 that the file must have, as in pip's URLs.
SHA256_MARK = "#sha256="
# Suffix of the file beside a checkpoint that holds its SHA-256 in the format of sha256sum.
SUM_SUFFIX = ".sha256"


def _get_statistic(owner: object, name: str) -> Callable:
    """Replace `builtins.getattr` while unpickling; only four methods may be read."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise pickle.UnpicklingError(f"GLOBAL builtins.getattr({owner!r}, {name!r}) is refused")
    return getattr(HistoryBuffer, name)


def _reconstruct_empty(kind: type, shape: tuple, code: bytes) -> np.ndarray:
    """Replace numpy's `_reconstruct` while unpickling: an array is made empty, and filled later.

    numpy itself always asks for shape (0,); another one would take memory that no file holds.
    """
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"GLOBAL numpy._reconstruct({kind!r}, {shape!r}) is refused")
    return np.ndarray(shape, np.int8)  # its type comes with its values


def _make_scalar(kind: np.dtype, *content: Any) -> Any:
    """Replace numpy's `scalar` while unpickling: its memory is that of the bytes that are there."""
    if len(content) != 1:
        raise pickle.UnpicklingError(f"GLOBAL numpy.scalar({kind!r}) without content is refused")
    multiarray: Any = importlib.import_module(
        "numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray"
    )  # numpy 2 renamed the package
    return multiarray.scalar(kind, *content)


def _list_allowed() -> list:
    """Return the classes and functions that mmengine's checkpoints need beyond tensors."""
    allowed: list = [HistoryBuffer, (_get_statistic, "builtins.getattr")]
    # Training scripts of the DeiT and ConvNeXt family keep their parsed arguments.
    allowed.append(argparse.Namespace)
    for package in ("numpy.core", "numpy._core"):  # the name before and since numpy 2
        allowed.append((_reconstruct_empty, f"{package}.multiarray._reconstruct"))
        allowed.append((_make_scalar, f"{package}.multiarray.scalar"))
    allowed += [np.ndarray, np.dtype]
    allowed += [type(np.dtype(code)) for code in "?bhilqBHILQefdFDUS"]
    return allowed


def trust_pickle() -> None:
    """Let this process load checkpoints that may run any code of their author.

    Warns:
        CheckpointWarning: Once, when it is called.
    """
    _POLICY["weights_only"] = False
    warnings.warn(
        "--trust-pickle: checkpoints may run any code of their authors",
        CheckpointWarning,
        stacklevel=2,
    )


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Load a `.pth` or `.safetensors` file without running code in it.

    If there is a file `PATH.sha256`, as trainings write it, the SHA-256 must agree.

    Args:
        path: The file; or `hordet://NAME` or an http(s) URL, which is fetched if it is not here
            yet. `FILE#sha256=HEX` loads it only if it has that SHA-256, so a config can state
            exactly which weights it means.
        map_location: The device of the tensors, as in `torch.load`.

    Returns:
        The content: a state dict, or a dict with `state_dict` and more.

    Raises:
        CheckpointError: The file is missing, truncated, not a checkpoint, has another SHA-256, or
            holds pickled code.
    """
    return _load_and_hash(path, map_location, hashed=False)[0]


def load_and_hash(path: str | Path, map_location: Any = "cpu") -> tuple[dict, str]:
    """Load a file as `load_checkpoint` does, and return the SHA-256 of what was read, too.

    Raises:
        CheckpointError: As `load_checkpoint`.
    """
    return _load_and_hash(path, map_location, hashed=True)


def _load_and_hash(path: str | Path, map_location: Any, hashed: bool) -> tuple[dict, str]:
    """Load a file; its SHA-256 is empty unless it is asked for or must be compared."""
    name, mark, digits = str(path).partition(SHA256_MARK)
    path, stated = split_sha256(f"{_resolve(name)}{mark}{digits}")
    path = path.expanduser()
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        found = f"; {path.parent} has {', '.join(near)}" if near else ""
        raise CheckpointError(f"no checkpoint file at {path}{suggest_name(name) or found}")
    # Opened once: the path may lead to another file between the check and the reading.
    with _open(path) as file, _explain_cure(path) as cure:
        sums = read_stated_sums(path)
        digest = hash_open_file(file) if hashed or stated or sums else ""
        if stated:
            require_sha256(digest, stated, str(path))
        if sums and digest not in sums:
            advice = "Take another checkpoint; if you changed the file yourself, remove that file"
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 is not the one in {path.name}{SUM_SUFFIX} beside "
                + ("it" if cure else f"it. {advice}")
            )
        checkpoint = load_open_file(file, map_location)
    # A file put there by hand may have any project's names; in the cache they are hordet's.
    return (_rename_if_known(checkpoint) if name.startswith(PREFIX) else checkpoint), digest


@contextmanager
def _explain_cure(path: Path) -> Iterator[str]:
    """Say of a faulty file of the cache how it is fetched again; yield that, or nothing."""
    cure = describe_cure(path)
    try:
        yield cure
    except CheckpointError as error:
        if not cure:
            raise
        raise CheckpointError(f"{error}. {cure}") from error


def load_open_file(file: BinaryIO, map_location: Any = "cpu", name: str = "") -> dict:
    """Load a checkpoint from a file that is open for reading, without running code in it.

    Args:
        file: As `open(path, "rb")` gives it; wherever it stands.
        map_location: As for `load_checkpoint`.
        name: What messages call it; by default its path.

    Raises:
        CheckpointError: As `load_checkpoint`, but that nothing is compared with a stated SHA-256.
    """
    path = name or file.name
    if text := recognize_text(file):
        raise CheckpointError(
            f"{path} is {text}, not a checkpoint. Get the file again; if a server sent this in its "
            "place, look at it in a browser: the file may have moved, or need a sign-in"
        )
    file.seek(0)
    begin = file.read(10)
    # A safetensors file begins with the length of its header and a JSON object.
    if Path(file.name).suffix == ".safetensors" or begin[8:] == b'{"':
        checkpoint = _load_safetensors(file, map_location, path)
    else:
        checkpoint = _load_pickle(file, map_location, begin[:2], path)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} holds a {type(checkpoint).__name__}, not a dict of tensors; "
            "save model.state_dict() instead of the model"
        )
    states = [checkpoint[key] for key in _STATES if isinstance(checkpoint.get(key), dict)]
    for state in states or [checkpoint]:
        _require_plain_tensors(state, path)
    if isinstance(checkpoint.get("meta"), dict):
        _read_classes(checkpoint["meta"].get("dataset_meta"), path)
    return checkpoint


def recognize_text(file: BinaryIO) -> str:
    """Return what an open file is that holds text or nothing in place of tensors; '' for others."""
    file.seek(0)
    begin = file.read(_LONGEST_BEGIN)
    if not begin:
        return "an empty file"
    plain = begin.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if plain.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", begin, re.DOTALL | re.IGNORECASE)
        words = " ".join(title[1].decode("utf-8", "replace").split())[:80] if title else ""
        return "a web page" + (f" ({words})" if words.isprintable() and words else "")
    if plain.startswith(b"<?xml"):
        return "an XML text, mostly a server's message"
    if plain.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS (`git lfs pull` gets the file itself)"
    if plain.startswith((b"{", b"[")) and b"\0" not in begin:
        return "a JSON text"
    try:
        words = " ".join(begin.decode().split())
    except UnicodeDecodeError:
        return ""
    return f"a text ({words[:80]})" if words.isprintable() else ""


def _require_plain_tensors(state: dict, path: str) -> None:
    """Check that a state dict has names, and tensors whose numbers are all in the file.

    Raises:
        CheckpointError: It has others.
    """
    for name, value in state.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"{path} has {str(name)[:60]!r}, a {type(name).__name__}, where a tensor's name "
                "must be. Save model.state_dict()"
            )
        if not isinstance(value, torch.Tensor):
            continue
        kinds = dict(
            nested=value.is_nested,
            quantized=value.is_quantized,
            sparse=value.layout != torch.strided,
            meta=value.is_meta,
        )
        if odd := [kind for kind, holds in kinds.items() if holds]:
            raise CheckpointError(
                f"{path}: {name} is a {odd[0]} tensor; models here have plain ones, with a number "
                "at each place. Save the model's state_dict() as it was before it was converted"
            )


def _read_classes(dataset_meta: Any, path: str) -> None:
    """Make the class names of a training text alone; numpy's texts are another type.

    Raises:
        CheckpointError: They are no list of names.
    """
    classes = dataset_meta.get("classes") if isinstance(dataset_meta, dict) else None
    if classes is None:
        return
    if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
        raise CheckpointError(
            f"{path} has {str(classes)[:60]!r} as meta.dataset_meta.classes; it must be a list of "
            "names. Correct it, or save model.state_dict() alone"
        )
    dataset_meta["classes"] = type(classes)(map(str, classes))


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}. Check the path, and that you may "
            "read there"
        ) from error


def _resolve(name: str) -> str:
    """Return the file that `hordet://NAME` or a URL stands for; other names as they are."""
    if not name.startswith((PREFIX, "http://", "https://")):
        return name
    from hordet.checkpoints.named import ensure_file

    return str(ensure_file(name))


def _rename_if_known(checkpoint: dict) -> dict:
    """Give the tensors the names that models here read, if all of them are known."""
    from hordet.checkpoints.convert import convert_names

    try:
        return convert_names(checkpoint, minimum_share=1.0).state_dict
    except CheckpointError:
        return checkpoint  # whoever fills a model counts how much of it this fills


def split_sha256(path: str | Path) -> tuple[Path, str | None]:
    """Split `FILE#sha256=HEX` into the file and its SHA-256, which is None if not stated.

    Raises:
        CheckpointError: After `#sha256=` there are not 64 hexadecimal digits.
    """
    name, mark, digits = str(path).partition(SHA256_MARK)
    if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise CheckpointError(
            f"{path}: got {digits!r} after {SHA256_MARK}; a SHA-256 has 64 hexadecimal digits, "
            "as sha256sum prints them"
        )
    return Path(name), digits.lower() or None


def read_stated_sums(path: Path) -> list[str]:
    """Return the SHA-256 sums in the `.sha256` beside a file; two while the file is replaced."""
    sums = path.with_name(path.name + SUM_SUFFIX)
    try:
        if not sums.is_file():  # a pipe or a device would never end
            return []
        with sums.open(encoding="ascii") as file:
            text = file.read(_LONGEST_SUMS)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}{SUM_SUFFIX} cannot be read: {error}") from error
    found = [(plain or tagged).lower() for plain, tagged in _SUM.findall(text)]
    if not found:
        raise CheckpointError(
            f"{sums} holds no SHA-256. Write one into it by `sha256sum {path.name}`, or remove it"
        )
    return found


def compute_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hash_open_file(file)


def hash_open_file(file: BinaryIO) -> str:
    """Return the SHA-256 of all of an open file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def require_sha256(found: str, stated: str, source: str) -> None:
    """Check that a file has the stated SHA-256.

    Raises:
        CheckpointError: It has another SHA-256.
    """
    if found != stated.lower():
        raise CheckpointError(
            f"{source} has the SHA-256 {found}, and {stated} is stated: it is another file or a "
            "damaged one. Get the right file, or correct the stated SHA-256"
        )


def _load_safetensors(file: BinaryIO, map_location: Any, path: str) -> dict:
    from safetensors.torch import load_file

    # By the number of the open file, since safetensors takes paths alone. Windows has no such
    # names, and lets no open file be replaced.
    opened = f"/dev/fd/{file.fileno()}"
    name = opened if os.path.exists(opened) else file.name
    try:
        return load_file(name, device=str(map_location or "cpu"))
    except Exception as error:  # of safetensors, and of torch for shapes that no tensor has
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file: {error}. Copy or download it again"
        ) from error


def _load_pickle(file: BinaryIO, map_location: Any, magic: bytes, path: str) -> Any:
    size = os.fstat(file.fileno()).st_size
    try:
        _refuse_bomb(file, size, path)
        file.seek(0)
        with torch.serialization.safe_globals(_list_allowed()):
            return torch.load(file, map_location=map_location, **_POLICY)
    except CheckpointError:
        raise
    except Exception as error:
        # torch reports damage by many types (RuntimeError, EOFError, KeyError, struct.error, ...).
        refused = re.search(r"(?:GLOBAL|unrecognized function|but got) ([^\s,]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{path} holds pickled code: it asks for {refused[1]}, which is not a tensor, "
                "number or container; nothing was run. Save only model.state_dict(). If you trust "
                "the author of the file: `hordet convert --trust-pickle FILE NEW.pth` writes its "
                "tensors alone"
            ) from None
        if magic not in (b"PK", b"\x80\x02"):  # a zip of torch >= 1.6, or a bare pickle before it
            raise CheckpointError(
                f"{path} is not a checkpoint: it begins with {magic!r} and torch.save writes b'PK'"
            ) from error
        raise CheckpointError(
            f"{path} ({size:,} bytes) is truncated or damaged; copy or download it again "
            f"({type(error).__name__})"
        ) from error


def _refuse_bomb(file: BinaryIO, size: int, path: str) -> None:
    """Raise for what would fill the memory: parts of a zip larger than the file, and bytearrays.

    torch lets a pickle make a bytearray of any stated length, which needs no byte of the file.
    """
    if not zipfile.is_zipfile(file):
        file.seek(0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            _refuse_bytearray(whole, path)
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked <= _LARGEST_SHARE * size:
            for part in archive.namelist():
                if part.endswith(".pkl"):
                    _refuse_bytearray(archive.read(part), path)
    if unpacked > _LARGEST_SHARE * size:
        raise CheckpointError(
            f"{path} is refused: unpacked it is {unpacked:,} bytes, the file itself "
            f"{size:,}; torch.save does not compress, so this file was made to "
            "fill the memory"
        )


def _refuse_bytearray(pickled: bytes | mmap.mmap, name: str) -> None:
    if _BYTEARRAY.search(pickled):
        raise CheckpointError(
            f"{name} is refused: it makes a bytearray, which no checkpoint of tensors needs and "
            "which can fill the memory. Save only model.state_dict()"
        )


def use_safe_loading() -> None:
    """Make mmengine load all checkpoints by `load_checkpoint`: resume, load_from and Pretrained.

    It replaces mmengine's loaders of local and http(s) files, adds that of `hordet://NAME`, and is
    not called at import.
    """
    for prefix in ("", "http://", "https://", PREFIX):
        CheckpointLoader.register_scheme(prefix, load_from_hordet, force=True)


def load_from_hordet(filename: str, map_location: Any = None) -> dict:
    """Load a file in the form that mmengine reads; mmengine logs the name after `load_from_`."""
    checkpoint = load_checkpoint(filename, map_location)
    # mmengine's resume would execute this text as a Python config; current mmengine writes `cfg`.
    if isinstance(checkpoint.get("meta"), dict):
        checkpoint["meta"].pop("config", None)
    # mmengine reads only this key; the authors of HorNet, Swin and ConvNeXt write `model`.
    if "state_dict" not in checkpoint and isinstance(checkpoint.get("model"), dict):
        checkpoint["state_dict"] = checkpoint.pop("model")
    return checkpoint
