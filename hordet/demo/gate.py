"""Who is answered, and how much may lie in the folder of uploads."""

import re
import time
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))
ANY_ADDRESS = frozenset(("0.0.0.0", "::"))  # noqa: S104
IN_USE = 60  # seconds: files that are younger may be about to be read
# Bytes of a request that is no upload: the page sends up to 50 kB, with small copies of its
# examples, and more with a legend of hundreds of classes. A larger one could carry an image as a
# data URL, which gradio would put into the folder of uploads. One below SMALL passes also where the
# folder is full.
LARGEST, SMALL = 256_000, 50_000


class Storage:
    """A folder that is kept within a size.

    Args:
        folder: Uploads, and what the page shows and offers for download.
        megabytes: Of all its files.
    """

    def __init__(self, folder: str | Path, megabytes: int) -> None:
        """See the class."""
        self.megabytes = megabytes
        self._folder = Path(folder)
        self._awaited = 0  # bytes of uploads that are on their way

    def make_room(self, length: int = 0) -> bool:
        """Remove the oldest files until others fit in, but none that may be in use.

        Args:
            length: Bytes of what is to come.

        Returns:
            Whether it fits.
        """
        files = []
        for path in self._folder.rglob("*"):
            try:
                status = path.stat()
            except OSError:  # removed meanwhile
                continue
            if path.is_file():
                files.append((status.st_mtime, status.st_size, path))
        over = sum(size for _, size, _ in files) + self._awaited + length - self.megabytes * 10**6
        for changed, size, path in sorted(files):
            if over <= 0 or time.time() - changed < IN_USE:
                break
            path.unlink(missing_ok=True)
            over -= size
        return over <= 0

    def expect(self, length: int) -> None:
        """Count an upload that begins, or by a negative number one that has ended."""
        self._awaited += length


class Gate:
    """ASGI middleware: answers this page alone, and takes uploads while there is room.

    A page of another site can lead its own name to this machine (DNS rebinding), and can send
    uploads here. So the `Host` must be an address of this page, and an `Origin` must be the page.

    Args:
        app: What is guarded.
        host: The address that is listened on.
        names: Other names by which this machine is called.
        storage: Where uploads go.
    """

    def __init__(self, app: ASGIApp, host: str, names: Iterable[str], storage: Storage) -> None:
        """See the class."""
        self._app = app
        self._any = host in ANY_ADDRESS
        self._known = THIS_MACHINE | {name.lower() for name in (host, *names)} - ANY_ADDRESS
        self._storage = storage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it in words: 403, 404, 411 or 413."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refuse(scope, headers)
        if refusal:
            await PlainTextResponse(refusal, 403)(scope, receive, send)
        elif scope.get("method", "GET") not in ("GET", "HEAD", "OPTIONS"):
            await self._take_body(headers, scope, receive, send)
        else:
            await self._send_file(scope, receive, send)

    async def _send_file(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with 404 where a file is asked for that has just been removed.

        An upload is removed when it was read; the browser may ask for it again. Starlette sends the
        head of a file's answer before it opens the file, so the head waits for the first bytes.
        """
        head: list[Message] = []
        begun = False

        async def hold_head(message: Message) -> None:
            nonlocal begun
            # Of a stream, whose length is not known, it must not wait.
            if message["type"] == "http.response.start" and _has_length(message):
                head.append(message)
                return
            begun = True
            while head:
                await send(head.pop())
            await send(message)

        try:
            await self._app(scope, receive, hold_head)
        except (RuntimeError, FileNotFoundError) as error:
            # Starlette's own word where it looks for the file; the system's where it opens it.
            gone = isinstance(error, FileNotFoundError) or re.fullmatch(
                r"File at path .* does not exist\.", str(error)
            )
            if begun or not gone:
                raise
            await PlainTextResponse("This file is no longer kept", 404)(scope, receive, send)

    def _refuse(self, scope: Scope, headers: Headers) -> str:
        """Return why a request is not answered, or nothing."""
        host = headers.get("host", "").lower()
        known = set(self._known)
        if self._any and scope.get("server"):
            known.add(str(scope["server"][0]))  # the address of this machine that was called
        if _name_of(host) not in known:
            return (
                f"This page is not served as {_name_of(host)!r}, but as {', '.join(sorted(known))}."
                f" hordet demo --name {_name_of(host)} allows that name"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            return f"A page of {origin} may not use this one"
        return ""

    async def _take_body(
        self, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let a request with a body through while there is room for it."""
        is_upload = scope["path"].rstrip("/").endswith("/upload")
        stated = headers.get("content-length", "")
        chunked = "transfer-encoding" in headers
        if chunked or not (stated.isdecimal() or (not stated and not is_upload)):
            await PlainTextResponse("A request must state its length", 411)(scope, receive, send)
            return
        length = int(stated or 0)
        words = ""
        if not is_upload and length > LARGEST:
            words = f"A request that is no upload may hold {LARGEST // 1000} kB: upload images"
        elif (is_upload or length > SMALL) and not self._storage.make_room(length):
            words = (
                f"The page holds {self._storage.megabytes} MB of uploads and results, its limit. "
                "Try again in a minute, or start hordet demo with a larger --max-total-mb"
            )
        if words:
            await PlainTextResponse(words, 413)(scope, receive, send)
            return
        self._storage.expect(length)
        try:
            await self._app(scope, receive, send)
        finally:
            self._storage.expect(-length)


def _has_length(message: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))


def _name_of(host: str) -> str:
    """Return a `Host` without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
