"""HTTP as the loopback Hub speaks it: requests read and recorded, ranges, redirects, errors, faults."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loopback_store import Content

CHUNK = 1 << 16


@dataclass(slots=True, kw_only=True)
class Request:
    """What a client asked and what it got.

    Attributes:
        site: `hub` or `cdn`.
        method: The HTTP method.
        path: The path with its query.
        range: The Range header, or None.
        encoding: The Accept-Encoding header, or None.
        token: The token sent, or None.
        status: The status answered.
        sent: Bytes of body sent, headers not counted.
    """

    site: str
    method: str
    path: str
    range: str | None
    encoding: str | None
    token: str | None
    status: int = 0
    sent: int = 0


@dataclass(slots=True, kw_only=True)
class Fault:
    """Something to do wrong with the bytes of one file.

    Attributes:
        cut: Break the connection after this many bytes.
        content: Serve these bytes instead, with their own length.
        delay: Wait this many seconds before the first byte.
        ranges: Whether a Range header is heeded.
        times: How often; None for ever.
    """

    cut: int | None = None
    content: bytes | None = None
    delay: float = 0.0
    ranges: bool = True
    times: int | None = 1


class Refusal(Exception):
    """An HTTP error with the headers by which the client tells one from another."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers


Route = tuple[str, re.Pattern[str], Callable[..., None]]


KINDS = {"repo": r"[^/]+(?:/[^/]+)?", "sha": r"[0-9a-f]{40}", "rest": r".+", None: r"[^/]+"}


def route(methods: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a function as the answer to requests of some methods for a path, with `{name:kind}` parts in it."""
    expression = re.sub(r"\{(\w+)(?::(\w+))?\}", lambda part: f"(?P<{part[1]}>{KINDS[part[2]]})", pattern)

    def mark(answer: Callable[..., None]) -> Callable[..., None]:
        answer.routes = [(method, re.compile(expression), answer) for method in methods.split()]
        return answer

    return mark


class Site(ThreadingHTTPServer):
    """One listening host. Stopping it also breaks the connections that clients keep open."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, name: str, host: str, hub: Any, answers: Iterable[Callable[..., None]]) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.name, self.host, self.hub = name, host, hub
        self.routes: list[Route] = [entry for answer in answers for entry in answer.routes]
        self.connections: set[socket.socket] = set()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_address[1]}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            close_now(connection)
        self.thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a client goes away: tests make clients do that."""


def close_now(connection: socket.socket) -> None:
    """End a connection in both directions, whatever is still in flight."""
    with contextlib.suppress(OSError):  # the other side may have been faster
        connection.shutdown(socket.SHUT_RDWR)


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer, on a connection that is kept open between them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Site

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Keep standard error for the tests; `LoopbackHub.requests` has it all."""

    def serve(self) -> None:
        address = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        self.body = self._read_body()
        authorization = self.headers.get("Authorization", "")
        self.request_record = Request(
            site=self.server.name,
            method=self.command,
            path=self.path,
            range=self.headers.get("Range"),
            encoding=self.headers.get("Accept-Encoding"),
            token=authorization.removeprefix("Bearer ") or None,
        )
        self.server.hub.requests.append(self.request_record)
        try:
            self.server.hub.interfere(self)
            answer, groups = self._route(address.path)
            answer(self.server.hub, self, **groups)
        except Refusal as refusal:
            self._refuse(refusal)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def _route(self, path: str) -> tuple[Callable[..., None], dict[str, str]]:
        for method, pattern, answer in self.server.routes:
            match = pattern.fullmatch(path)
            if match and method == self.command:
                return answer, {key: unquote(value) for key, value in match.groupdict().items() if value}
        raise Refusal(404, f"The loopback Hub does not know {self.command} {path}")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _refuse(self, refusal: Refusal) -> None:
        headers = {"X-Error-Message": refusal.message, **refusal.headers}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        self.send_json({"error": refusal.message}, status=refusal.status, headers=headers)

    def send_head(self, status: int, headers: Mapping[str, object]) -> None:
        self.request_record.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()

    def send_json(
        self, value: object, *, status: int = 200, headers: Mapping[str, object] | None = None
    ) -> None:
        data = json.dumps(value).encode()
        length = {"Content-Type": "application/json", "Content-Length": len(data)}
        self.send_head(status, {**length, **(headers or {})})
        self._send_body(data)

    def send_redirect(self, url: str, headers: Mapping[str, object]) -> None:
        self.send_head(302, {"Location": url, "Content-Length": 0, **headers})

    def send_content(
        self, content: Content, headers: Mapping[str, object], fault: Fault | None = None
    ) -> None:
        """Send a file, or the range of it that was asked for, or as much as a fault lets through."""
        if fault is not None and fault.content is not None:
            content = Content(fault.content)
        heeded = fault is None or fault.ranges
        first, last, partial = self._range(content.size) if heeded else (0, content.size - 1, False)
        if partial:
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{content.size}"}
        length = last - first + 1
        self.send_head(
            206 if partial else 200, {"Accept-Ranges": "bytes", "Content-Length": length, **headers}
        )
        if self.command == "HEAD":
            return
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        stop = length if fault is None or fault.cut is None else min(length, fault.cut)
        for offset in range(0, stop, CHUNK):
            self._send_body(content.read(first + offset, min(CHUNK, stop - offset)))
        if stop < length:
            close_now(self.connection)
            self.close_connection = True

    def _range(self, size: int) -> tuple[int, int, bool]:
        """Return the first and last byte to send, and whether they are a range that was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None:
            return 0, size - 1, False
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
        if first > last:
            raise Refusal(416, "Range not satisfiable", **{"Content-Range": f"bytes */{size}"})
        return first, last, True

    def _send_body(self, data: bytes) -> None:
        if self.command != "HEAD":
            # Counted first: a client may look at the count as soon as it has the bytes.
            self.request_record.sent += len(data)
            self.wfile.write(data)
