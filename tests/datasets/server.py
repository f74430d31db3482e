"""A file server on this machine that misbehaves on order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and how badly.

    Attributes:
        files: content by path.
        etag: of every file; none where empty.
        ranges: whether Range is honoured.
        if_range: whether If-Range is honoured.
        cuts: after how many bytes the next answers are cut; one is used up by each.
        length: what Content-Length says, from the true one.
        statuses: the next answers' statuses, before the file is served.
        chunked: whether no length is told.
        asked: what Range each request asked for.
        before: called before each answer.
    """

    files: dict[str, bytes]
    etag: str = '"v1"'
    ranges: bool = True
    if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    length: Callable[[int], int] = lambda true: true
    statuses: list[int] = field(default_factory=list)
    chunked: bool = False
    asked: list[str | None] = field(default_factory=list)
    before: Callable[[Site], None] = lambda site: None
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.asked.append(asked)
            site.before(site)
            status = site.statuses.pop(0) if site.statuses else 200
            content = site.files.get(self.path)
            if status != 200 or content is None:
                self.send_response(status if status != 200 else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            vouched = not site.if_range or self.headers.get("If-Range") in (None, site.etag)
            if asked and site.ranges and vouched:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            if site.etag:
                self.send_header("ETag", site.etag)
            body = content[start:]
            if site.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(site.length(len(body))))
            self.end_headers()
            cut = site.cuts.pop(0) if site.cuts else None
            sent = body[:cut][: site.length(len(body))]
            if site.chunked:
                self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n")
                if cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(sent)
            self.close_connection = (
                cut is not None or len(sent) != site.length(len(body)) or (len(sent) < len(body))
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
