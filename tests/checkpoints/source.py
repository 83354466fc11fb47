"""A local source of files by HTTP that fails in the ways that real ones do."""

import base64
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Source:
    """What is served, and what was asked for.

    Attributes:
        files: Content by path, without the query.
        cut: Bytes after which each answer is cut off; None: whole answers.
        ranges: Whether parts can be asked for.
        redirects: Other paths or URLs by path.
        status: A status by path that is answered in place of the file.
        length: A Content-Length that is stated in place of the true one.
        tags: ETag by path.
        login: `NAME:PASSWORD` that every path but redirects wants; '': none.
        logins: Authorization headers of the requests.
        asked: The path and the Range header of each request.
        held: Held by a test, it keeps every answer waiting in the middle.
    """

    def __init__(self):
        self.files, self.redirects, self.status, self.tags = {}, {}, {}, {}
        self.cut = self.length = None
        self.ranges = True
        self.asked, self.logins = [], []
        self.login = ""
        self.held = threading.Lock()
        self.address = ""

    def count(self, path):
        """How often a path was asked for."""
        return sum(asked == path for asked, _ in self.asked)


@contextmanager
def serve():
    """Serve a `Source` until the block ends."""
    source = Source()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            source.asked.append((path, self.headers.get("Range")))
            source.logins.append(self.headers.get("Authorization"))
            wanted = f"Basic {base64.b64encode(source.login.encode()).decode()}"
            if path in source.redirects:
                self.send_response(302)
                self.send_header("Location", source.redirects[path])
                self.end_headers()
            elif source.login and self.headers.get("Authorization") != wanted:
                self.send_error(401)
            elif path in source.status or path not in source.files:
                self.send_error(source.status.get(path, 404))
            else:
                self._send(source.files[path], path)

        def _send(self, content, path):
            start = 0
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            tag = source.tags.get(path, '"one"')
            if asked and source.ranges and self.headers.get("If-Range", tag) == tag:
                start = int(asked[1])
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            rest = content[start:]
            self.send_header("Content-Length", str(source.length or len(rest)))
            self.send_header("ETag", tag)
            self.end_headers()
            end = len(rest) if source.cut is None else source.cut
            half = end // 2
            self.wfile.write(rest[:half])
            self.wfile.flush()
            with source.held:
                self.wfile.write(rest[half:end])
            if end < len(rest):
                self.close_connection = True

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    source.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield source
    finally:
        server.shutdown()
        server.server_close()
