"""Whether the bytes of a checkpoint are still those that were published or saved: SHA-256 of every file of weights."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from loadstone.checkpoint.formats.saved import blank, sum_of
from loadstone.checkpoint.index import TensorIndex
from loadstone.checkpoint.settled import settle
from loadstone.source import Snapshot, SourceFile
from loadstone.source.local_file import unreadable

_BLOCK = 8 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What summing the files found.

    Attributes:
        intact: Files whose sum is the known one.
        problems: One line for each file whose sum is another.
        unknown: Files for which no sum is known, so that nothing can be said of them.
    """

    intact: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def verify(
    snapshot: Snapshot, index: TensorIndex, *, progress: Callable[[int], object] | None = None
) -> Verification:
    """Sum every file of weights and compare: with the Hub's sum where it is known, else with the one that we saved.

    Files that are not on this machine are fetched, or read where they lie.

    Args:
        snapshot: The files.
        index: What `open_checkpoint` returned for it.
        progress: Called with the number of bytes summed since the last call.

    Raises:
        CheckpointError: If a header is damaged; `open_checkpoint` would have said so.
        SourceError: If a file cannot be fetched or read.
    """
    snapshot = settle(snapshot)
    found: dict[str, list[str]] = {"intact": [], "problems": [], "unknown": []}
    paths = {} if snapshot.reads_at_once else snapshot.fetch(index.files)
    for name in index.files:
        path = paths.get(name)
        published = snapshot.file(name).sha256 if path is None else _published(snapshot.file(name), path)
        saved = sum_of(snapshot, name)
        expected = published or saved
        if expected is None:
            found["unknown"].append(name)
            continue
        with _stream(snapshot, name) if path is None else _opened(path) as stream:
            actual = _sum(stream, blanked=published is None, progress=progress)
        if actual == expected:
            found["intact"].append(name)
        else:
            by = "the Hub" if published else "the save"
            found["problems"].append(
                f"{name} has changed: {by} gave SHA-256 {expected}, its bytes have {actual}"
            )
    return Verification(**{key: tuple(lines) for key, lines in found.items()})


def _published(file: SourceFile, path: Path) -> str | None:
    """Return the sum under which a file was published; in the Hub's cache, large files are named by it."""
    if file.sha256 is not None:
        return file.sha256
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb") as stream:
            yield stream
    except OSError as error:
        raise unreadable(path, error) from error


def _stream(snapshot: Snapshot, name: str) -> io.BufferedReader:
    """Return a file that is read where it lies, from its start on."""
    return io.BufferedReader(_Far(snapshot, name), _BLOCK)


class _Far(io.RawIOBase):
    """A file of a snapshot as a stream."""

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self._snapshot, self._name, self._at = snapshot, name, 0
        self._size = snapshot.file(name).size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._at)
        self._snapshot.read_into(self._name, self._at, [memoryview(buffer)[:count]])
        self._at += count
        return count


def _sum(stream: BinaryIO, *, blanked: bool, progress: Callable[[int], object] | None) -> str:
    digest = hashlib.sha256()
    if blanked:
        length = stream.read(8)
        digest.update(length + blank(stream.read(int.from_bytes(length, "little"))))
    while block := stream.read(_BLOCK):
        digest.update(block)
        if progress is not None:
            progress(len(block))
    return digest.hexdigest()
