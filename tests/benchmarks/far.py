"""Measures a sharded checkpoint on S3: a load in each backend beside a plain parallel fsspec read of the same bytes, in turns.

    python -m tests.benchmarks.far [--rounds N] [--backends torch,flax,tensorflow]

The server is moto's, a process of its own on loopback, which copies every answer in Python: what is measured is whether a load
asks for more than the bytes, or keeps the server waiting, not how fast a network is. The plain read is `cat_file` of the same
pieces of 8 MiB by as many threads, thrown away. Frameworks are imported, and one load has passed, before the clock starts.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from loadstone import AutoModelForCausalLM
from loadstone_fsspec import open_address
from loadstone_fsspec.snapshot import READS
from tests.benchmarks.checkpoints import Generated, make

PIECE = 8 << 20
BUCKET = "bench"
LLAMA = Generated(
    name="llama",
    layers=4,
    hidden=1024,
    intermediate=4096,
    heads=8,
    kv_heads=8,
    vocabulary=8192,
    code="F32",
    shard=150_000_000,
)


def main() -> None:
    """Print the median seconds of each, and the ratio to the plain read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", default="torch,flax,tensorflow")
    given = parser.parse_args()
    logging.getLogger("loadstone").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, s3() as options:
        store = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        sizes = upload(store, make(LLAMA, Path(folder)))
        runs: dict[str, Callable[[], object]] = {"plain read": functools.partial(read, store, sizes)}
        for backend in given.backends.split(","):
            runs[backend] = functools.partial(load, backend, options)
        tell(runs, given.rounds, sum(sizes.values()))


def tell(runs: Mapping[str, Callable[[], object]], rounds: int, size: int) -> None:
    """Run all in turns, and print."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    plain = statistics.median(seconds["plain read"])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"{name:12} {median:6.2f} s  {size / median / 1e6:6.0f} MB/s  {median / plain:5.2f} x")


def load(backend: str, options: Mapping[str, Any]) -> None:
    """Load from S3, from the address to the finished model."""
    snapshot = open_address(f"s3://{BUCKET}/{LLAMA.name}", **options)
    AutoModelForCausalLM.from_pretrained(snapshot, backend=backend)


def read(store: Any, sizes: Mapping[str, int]) -> None:
    """Read all files in pieces, several at once, and keep nothing."""
    pieces = [(path, start) for path, size in sizes.items() for start in range(0, size, PIECE)]
    with ThreadPoolExecutor(READS) as pool:
        for data in pool.map(lambda one: store.cat_file(one[0], start=one[1], end=one[1] + PIECE), pieces):
            del data


def upload(store: Any, folder: Path) -> dict[str, int]:
    """Put a folder into the bucket, and return path -> bytes of the files with weights."""
    store.mkdir(BUCKET)
    for path in folder.iterdir():
        store.put_file(str(path), f"{BUCKET}/{LLAMA.name}/{path.name}")
    return {
        f"{BUCKET}/{LLAMA.name}/{path.name}": path.stat().st_size
        for path in sorted(folder.glob("*.safetensors"))
    }


@contextlib.contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """Run moto's server, and give what its clients are made with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await(f"{address}/moto-api/")
            yield {"endpoint_url": address, "key": "testing", "secret": "testing"}
        finally:
            server.terminate()


def _await(url: str, *, seconds: float = 30) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
