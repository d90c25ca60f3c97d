"""A plain HTTP server on loopback that gives out a folder: whole, in ranges, and as badly as a test asks; and moto, on guard."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Server(http.server.ThreadingHTTPServer):
    """The server, what it is to do wrong, and what was asked of it.

    Attributes:
        url: Where the folder lies.
        faults: Any of "short", "slow", "cut", "always cut", "denied", "no ranges" and "no listing".
        sent: Name and length of each answer with bytes of a file.
        before: Called with a file's name before it is read.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.faults: set[str] = set()
        self.sent: list[tuple[str, int]] = []
        self.cut: set[str] = set()
        self.before: Callable[[str], None] = lambda name: None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        faults, path = self.server.faults, Path(self.translate_path(self.path))
        if "denied" in faults:
            self.refuse(401)
        elif path.is_dir() and "no listing" not in faults:
            super().do_HEAD() if head else super().do_GET()
        elif not path.is_file():
            self.refuse(404)
        else:
            self.give(path, head=head)

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, path: Path, *, head: bool) -> None:
        faults = self.server.faults
        if not head:
            self.server.before(path.name)
        data = path.read_bytes()
        asked = None if "no ranges" in faults else RANGE.match(self.headers.get("Range", ""))
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, len(data))) if asked else (0, len(data))
        if "short" in faults and not head and stop - start > 1:
            stop = start + (stop - start + 1) // 2
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        if not head:
            self.send(path.name, data[start:stop], key=self.headers.get("Range", "") + path.name)

    def send(self, name: str, data: bytes, *, key: str) -> None:
        faults = self.server.faults
        if "always cut" in faults or ("cut" in faults and key not in self.server.cut):
            self.server.cut.add(key)
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.server.sent.append((name, len(data)))
        if "slow" in faults:
            time.sleep(0.02)
        self.wfile.write(data)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Serve a folder while the body runs."""
    with Server(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def ask_moto(s3: Mapping[str, Any], count: float) -> None:
    """Have the server look at credentials from the next request on, or (`inf`) no longer."""
    request = urllib.request.Request(f"{s3['endpoint_url']}/moto-api/reset-auth", str(count).encode())
    request.add_header("Content-Type", "text/plain")
    urllib.request.urlopen(request).close()


@contextlib.contextmanager
def guarded(s3: Mapping[str, Any], *actions: str) -> Iterator[dict[str, Any]]:
    """Give the options of a client who may do these actions, of a server that looks at credentials."""
    import boto3

    iam = boto3.client(
        "iam", "us-east-1", endpoint_url=s3["endpoint_url"], aws_access_key_id="a", aws_secret_access_key="b"
    )
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    user = f"user{len(actions)}"
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="allowed", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    ask_moto(s3, 0)
    try:
        yield dict(s3) | {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    finally:
        ask_moto(s3, float("inf"))
