"""The system calls with which a save touches a folder, and nothing else: tests cut the power before each of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two saves into one folder at once are not kept apart there.
    fcntl = None  # type: ignore[assignment]

_WRITE = 8 * 1024 * 1024
"""Bytes handed to one `write`."""


def make_folder(path: Path) -> None:
    """Make a folder that must not exist yet."""
    os.mkdir(path)


def write_new(path: Path, blocks: Iterable[bytes | memoryview], *, sync: bool) -> None:
    """Write a file that must not exist yet.

    Args:
        path: Where.
        blocks: Its content; each block is let go of before the next is asked for.
        sync: Whether to wait until the file has reached the disk.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for block in blocks:
            _write_all(descriptor, block)
            del block
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def overwrite_start(path: Path, data: bytes) -> None:
    """Replace the first bytes of a file that is not in use yet, and wait until it has reached the disk."""
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:_WRITE]) :]


def rename(source: Path, destination: Path) -> None:
    """Give a file another name in one step; what had that name before is gone."""
    os.replace(source, destination)


def remove(path: Path) -> None:
    """Remove a file; it is no fault if it is gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_folder(path: Path) -> None:
    """Remove a folder that should be empty; one that is not stays."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder have reached the disk."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time save into a folder; others wait. Where the file system has no locks, nobody waits."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
