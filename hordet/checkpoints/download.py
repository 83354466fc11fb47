"""Fetches a file by http(s), and goes on where an earlier attempt was cut."""

import base64
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.client import (
    BadStatusLine,
    HTTPException,
    HTTPResponse,
    InvalidURL,
    RemoteDisconnected,
)
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from hordet.errors import DownloadError, FileWriteError
from hordet.ops.files import explain_write_errors

TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 18  # bytes
# Attempts in a row that get no further than an earlier one; after one that does, it goes on.
FRUITLESS = 3
PAUSE = 1.0  # seconds before the second attempt, and twice as many before each further one


class _Cut(Exception):
    """The transfer ended early, or the server is busy; another attempt may help.

    Attributes:
        is_short: It ended as if it were whole, with fewer bytes than were stated.
    """

    def __init__(self, words: str, is_short: bool = False) -> None:
        super().__init__(words)
        self.is_short = is_short


class _StaySecure(HTTPRedirectHandler):
    """Follows redirects, but none from https to http."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(
                f"{hide_query(req.full_url)} leads from https to {hide_query(newurl)}, which "
                "anyone on the way can change; it was not followed"
            )
        url, _ = _split_login(newurl)
        following = super().redirect_request(req, fp, code, msg, headers, url)
        login = req.get_header("Authorization")
        if following is not None and login and _name_server(url) == _name_server(req.full_url):
            following.add_unredirected_header("Authorization", login)
        return following


@dataclass(frozen=True)
class _State:
    """What is known of a file that is partly here; kept beside it.

    Attributes:
        origin: SHA-256 of its URL, which may hold a key.
        total: Bytes of the whole; None if the server does not say.
        validator: The server's ETag or Last-Modified; a later part must be of the same.
        has_parts: Whether the server gives parts, as far as is known.
    """

    origin: str
    total: int | None
    validator: str | None
    has_parts: bool = True

    @property
    def is_enough(self) -> bool:
        """Tell whether it can be seen that a later part is of the same file."""
        return self.total is not None or bool(self.validator)


def locate_part(kept: Path, url: str) -> Path:
    """Return where the unfinished file of a URL lies beside the file that it becomes.

    Each URL has its own, so that of two sources neither ends what the other has begun.
    """
    return kept.with_name(f".{kept.name}.{_digest(url)[:8]}.part")


def find_parts(kept: Path) -> list[Path]:
    """Return the unfinished files of any URL for a file, and what is known of them."""
    return [*kept.parent.glob(f".{kept.name}.*.part"), *kept.parent.glob(f".{kept.name}.*.json")]


def download(url: str, kept: Path, *, label: str, size: int | None = None, extra: int = 0) -> Path:
    """Fetch a file, and go on from what an earlier attempt at the same URL has left.

    The environment's proxies are used (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`). What has come is
    kept whenever this fails for now, so that the next call asks for the rest alone. So is the whole
    file, until `forget` is called.

    Args:
        url: An http(s) address; redirects are followed.
        kept: The file that it becomes, for its folder, which is there, and for messages.
        label: What the progress bar calls it.
        size: Bytes that the whole must have, if known.
        extra: Bytes that must stay free beside the file.

    Returns:
        `locate_part(kept, url)`, whole and on the disk.

    Raises:
        DownloadError: There is no such file, or no connection; it is empty, or of another size.
        FileWriteError: There is too little space, or the folder cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{hide_query(url)} is no address by http or https")
    part = locate_part(kept, url)
    fruitless, furthest = 0, _size(part)
    short: list[int] = []  # bytes that were there when an attempt came short
    while True:
        try:
            with explain_write_errors(kept):
                _fetch_rest(url, part, label, size, extra)
            return part
        except _Cut as cut:
            here = _size(part)
            if cut.is_short:
                short.append(here)
            fruitless = 0 if here > furthest else fruitless + 1
            furthest = max(furthest, here)
            if fruitless >= FRUITLESS:
                rest = _describe_rest(part, url)
                if cut.is_short and short.count(here) > 1:
                    rest = (
                        f"the same {here:,} bytes came each time, so the length that the server "
                        "states may be wrong, or a proxy on the way may cut there; try another "
                        "source"
                    )
                raise DownloadError(f"{hide_query(url)}: {cut}; {rest}") from cut
            time.sleep(PAUSE * 2**fruitless)


def forget(part: Path) -> None:
    """Remove a fetched file, whole or not, and what is known of it."""
    _state_file(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def require_space(part: Path, needed: int) -> None:
    """Check that so many bytes are free where an unfinished file lies.

    Raises:
        FileWriteError: They are not.
    """
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FileWriteError(
            f"{part.parent} has {free:,} bytes free, and {needed:,} more are needed to fetch the "
            "file and to keep it in hordet's form. Free some space, or set the environment "
            "variable HORDET_CACHE to a folder with more"
        )


def hide_query(url: str) -> str:
    """Return a URL for messages, without a query (which may hold a key) and without a password."""
    try:
        pieces = urlsplit(url)
    except ValueError:  # such as of brackets that are not closed
        return re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    return pieces._replace(query="", fragment="", netloc=pieces.netloc.rpartition("@")[2]).geturl()


def _split_login(url: str) -> tuple[str, str]:
    """Split `http://USER:PASSWORD@HOST/..` into the URL and the header of basic authentication.

    urllib itself takes all of `USER:PASSWORD@HOST` for the name of a host (RFC 7617, section 2, has
    the header).
    """
    pieces = urlsplit(url)
    login, mark, host = pieces.netloc.rpartition("@")
    if not mark:
        return url, ""
    code = base64.b64encode(unquote(login).encode()).decode()
    return pieces._replace(netloc=host).geturl(), f"Basic {code}"


def _name_server(url: str) -> tuple[str, str]:
    pieces = urlsplit(url)
    return pieces.scheme, pieces.netloc.lower()


def _fetch_rest(url: str, part: Path, label: str, size: int | None, extra: int) -> None:
    """Make one attempt.

    Raises:
        _Cut: It ended early.
    """
    here, known = _size(part), _read_state(part, url)
    if known is None or not known.is_enough or (known.total is not None and here > known.total):
        here = 0
    if known is not None and here and here == known.total:
        return
    headers = {"User-Agent": "hordet", "Accept-Encoding": "identity"}
    if here and known is not None:
        headers["Range"] = f"bytes={here}-"
        if known.validator:
            headers["If-Range"] = known.validator
    address, login = _split_login(url)
    request = Request(address, headers=headers)  # noqa: S310
    if login:
        request.add_unredirected_header("Authorization", login)  # another server must not see it
    with _open(request, part) as response:
        continued = response.status == 206 and _continues(response, here, known)
        if response.status == 206 and not continued:
            part.unlink(missing_ok=True)
            raise _Cut("the server sent another part than was asked for")
        if not continued:  # all of it comes: the server knows no ranges, or has a new file
            here = 0
        length = response.headers.get("Content-Length", "")
        total = here + int(length) if length.isdecimal() else None
        if size is not None and total not in (None, size):
            forget(part)
            raise DownloadError(
                f"{hide_query(url)} has {total:,} bytes, and must have {size:,}: it is another file"
            )
        require_space(part, (total or size or 0) - here + extra)
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag and tag.startswith("W/"):  # a weak one does not promise the same bytes
            tag = None
        state = _State(_digest(url), total, tag)
        if "Range" in headers and not continued and known is not None:
            # All of the same file came, though a part was asked for.
            same = (total, tag) == (known.total, known.validator)
            state = replace(state, has_parts=not same)
        _state_file(part).write_text(json.dumps(asdict(state)))
        _write(response, part, here, total, label)
    have = _size(part)
    if total is not None and have < total:
        words = f"the transfer was cut after {have:,} of {total:,} bytes"
        raise _Cut(words, is_short=True)
    if not have:
        forget(part)
        raise DownloadError(f"{hide_query(url)} answered with an empty file")
    if size is not None and have != size:
        forget(part)
        raise DownloadError(
            f"{hide_query(url)} gave {have:,} bytes, and must have {size:,}: it is another file"
        )


@contextmanager
def _open(request: Request, part: Path) -> Iterator[HTTPResponse]:
    """Send a request; what fails on the way is a `_Cut` or a `DownloadError`."""
    url = hide_query(request.full_url)
    try:
        with build_opener(_StaySecure).open(request, timeout=TIMEOUT) as response:
            yield response
    except HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise _Cut(
                "the server has no more bytes than came before: its file has changed, or the "
                "length that it states is wrong"
            ) from error
        if error.code in (408, 429) or error.code >= 500:
            raise _Cut(f"the server answers {error.code} {error.reason}") from error
        if str(error.reason).startswith(HTTPRedirectHandler.inf_msg):  # of three lines
            raise DownloadError(
                f"{url}: the server sends on from address to address, in a circle or too often. "
                "Open that URL in a browser: the file may have moved, or need a sign-in"
            ) from error
        advice = ""
        if error.code == 401:
            advice = ". It wants a name and a password: https://NAME:PASSWORD@SERVER/.."
        raise DownloadError(
            f"{url}: the server answers {error.code} {error.reason}{advice}"
        ) from error
    except URLError as error:
        raise DownloadError(f"{url}: no connection ({error.reason})") from error
    except (InvalidURL, ValueError) as error:
        raise DownloadError(
            f"{url} is no URL that can be asked ({error}). Write a space as %20, and characters "
            "beyond ASCII in percent signs, too"
        ) from error
    except (HTTPException, TimeoutError, ConnectionError) as error:
        if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
            raise DownloadError(
                f"{url}: no web server answers there, but one that says {str(error).strip()[:40]!r}"
                ". Check the port in the URL, and whether http or https is meant"
            ) from error
        raise _Cut(f"the transfer was cut ({str(error) or type(error).__name__})") from error


def _write(response: HTTPResponse, part: Path, here: int, total: int | None, label: str) -> None:
    """Append what comes to the file, with a bar on a terminal, and flush it to the disk."""
    bar = tqdm(total=total, initial=here, desc=label, unit="B", unit_scale=True, disable=None)
    with bar, part.open("ab" if here else "wb") as file:
        try:
            while block := _read_block(response):
                file.write(block)
                bar.update(len(block))
        finally:
            file.flush()
            os.fsync(file.fileno())


def _read_block(response: HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK)
    except OSError as error:  # kept apart from what writing may raise
        raise _Cut(f"the transfer was cut ({error})") from error


def _continues(response: HTTPResponse, here: int, known: _State | None) -> bool:
    """Tell whether a part begins where it should, and is of a file that is as long as before."""
    stated = response.headers.get("Content-Range", "")
    length = stated.rpartition("/")[2]
    if known is not None and known.total is not None and length.isdecimal():
        if int(length) != known.total:
            return False
    return stated.startswith(f"bytes {here}-")


def _describe_rest(part: Path, url: str) -> str:
    """Say what is kept for the next attempt."""
    here, known = _size(part), _read_state(part, url)
    if here and known is not None and not known.has_parts:
        return (
            "the server gives no parts of its file, so the next attempt begins anew; try again "
            "later"
        )
    if here and known is not None and known.is_enough:
        return f"{here:,} bytes are kept, and the same command asks for the rest alone"
    return "try again later"


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path, url: str) -> _State | None:
    """Return what is known of a part, or None if it is of another URL or damaged."""
    try:
        state = _State(**json.loads(_state_file(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.origin == _digest(url) else None
