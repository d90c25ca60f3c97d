"""Files that are read where they lie: asked for by name where no listing says all, read in ranges, held against what they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loadstone.errors import ChangedFileError, SourceError
from loadstone.source import Snapshot, SourceFile
from loadstone_fsspec.faults import attempt, is_denied, is_missing

READS = 8
"""Reads that are on their way at once; each is of at most 9 MiB."""

_MARKS = (
    "ETag",
    "etag",
    "generation",
    "blob_id",
    "Content-MD5",
    "Last-Modified",
    "mtime",
    "LastModified",
    "created",
)
"""What tells a file from the one that replaces it, the surest first; stores give one or several of them."""

Entry = Mapping[str, Any]
"""What fsspec says of one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarSnapshot(Snapshot):
    """Files that are read where they lie.

    Attributes:
        files: Those that are known; where the listing does not say all, more come as they are asked for.
        filesystem: fsspec's.
        base: Its path of the folder, without a slash at the end.
        web: It is a server's.
        whole: The listing names every file.
        marks: File name -> what tells it from one that replaces it.
        absent: Names that were asked for in vain.
    """

    files: dict[str, SourceFile] = field(repr=False)
    filesystem: Any = field(repr=False)
    base: str
    web: bool
    whole: bool
    marks: dict[str, str] = field(default_factory=dict, repr=False)
    absent: set[str] = field(default_factory=set, repr=False)

    @property
    def reads_at_once(self) -> int:
        """How many reads a load may have on their way at once."""
        return READS

    def add(self, name: str, entry: Entry) -> SourceFile | None:
        """Note what a store says of a file; None where it does not say how long it is."""
        size = entry.get("size")
        if not isinstance(size, int):
            return None
        self.marks[name] = _mark(entry)
        self.files[name] = SourceFile(name=name, size=size)
        return self.files[name]

    def look_for(self, names: Iterable[str]) -> None:
        """Ask for files by name, several at once."""
        with ThreadPoolExecutor(READS, thread_name_prefix="loadstone-list") as pool:
            for _ in pool.map(self.has, names):
                pass

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        raise SourceError(
            "files of this source are read where they lie, and have no path on this machine",
            where=self.location,
            found=", ".join(file.name for file in files)[:200],
            hint="copy the checkpoint to a folder and load it from there",
        )

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        at, end = offset, offset + length
        while at < end:  # an answer may be shorter than what was asked for
            parts.append(self._part(file, at, end))
            at += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, file: SourceFile, start: int, stop: int) -> bytes:
        """Return bytes from `start` on, at least one and none beyond `stop`."""
        where = self._where(file.name)

        def request() -> bytes:
            data: bytes = self.filesystem.cat_file(
                self._path(file.name), start=start, end=stop, **self._no_cache()
            )
            if not data:
                raise ConnectionError(f"no bytes at {start:,}, where the file has {file.size:,}")
            return data

        try:
            data = attempt(request, where=where)
        except SourceError:
            self._check(file)  # it may be another one by now, which says more
            raise
        if len(data) > stop - start:
            self._check(file)
            raise SourceError(
                "the server does not give out parts of files",
                where=where,
                expected=f"{stop - start:,} bytes",
                found=f"{len(data):,} bytes",
                hint="use a server or a proxy that answers range requests, or copy the checkpoint to a folder",
            )
        return data

    def _no_cache(self) -> Mapping[str, object]:
        """Say to clients that read ahead that no byte beyond those asked for is wanted."""
        return {} if self.filesystem.async_impl else {"cache_type": "none"}

    def _check(self, file: SourceFile) -> None:
        if self.commit is not None:
            return
        entry = attempt(lambda: self._entry(file.name), where=self._where(file.name))
        expected = _told(file.size, self.marks[file.name])
        found = _told(entry.get("size"), _mark(entry))
        if found != expected:
            raise ChangedFileError(
                "a file changed while it was being loaded",
                where=self._where(file.name),
                expected=expected,
                found=found,
                hint="load again when nothing writes there any more",
            )

    def _unlisted(self, name: str) -> SourceFile | None:
        if self.whole or name in self.absent:
            return None
        entry = attempt(lambda: self._found(name), where=self._where(name))
        if entry is None or (found := self.add(name, entry)) is None:
            self.absent.add(name)
            return None
        return found

    def _found(self, name: str) -> Entry | None:
        try:
            return self._entry(name)
        except Exception as error:  # each client has a tree of its own
            # Who may not list is told of what is not there that it may not be seen.
            if is_missing(error) or (is_denied(error) and self.files):
                return None
            raise

    def _entry(self, name: str) -> Entry:
        path = self._path(name)
        self.filesystem.invalidate_cache(path)
        entry: Entry = self.filesystem.info(path)
        if entry.get("type") == "directory":
            raise FileNotFoundError(f"{name} is a folder")
        return entry

    def _path(self, name: str) -> str:
        return f"{self.base}/{quote(name) if self.web else name}"

    def _where(self, name: str) -> str:
        return f"{self.location}: {name}"


def _mark(entry: Entry) -> str:
    """Return what tells a file from one that replaces it, in one form whether it was listed or asked for."""
    key = next((key for key in _MARKS if entry.get(key)), None)
    if key is None:
        return ""
    value = entry[key]
    if isinstance(value, datetime):
        value = value.timestamp()
    return f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"


def _told(size: object, mark: str) -> str:
    return f"{size:,} bytes, {mark or 'no ETag'}" if isinstance(size, int) else f"no size, {mark}"
