"""What every source gives: the names, sizes and commit of one checkpoint, fixed at one moment."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadstone.errors import SourceError, nearest
from loadstone.source.local_file import read_whole
from loadstone.source.names import safe_name

TEXT_LIMIT = 32_000_000
"""Bytes that a text file may have. The largest real one is a shard index, some ten megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a checkpoint, as its source listed it.

    Attributes:
        name: The file's name, relative to the snapshot's root, with forward slashes.
        size: Its length in bytes.
        path: Where it lay on this machine when the snapshot was taken; None if it has yet to be fetched.
        sha256: The digest of its content in hexadecimal, where the source states one.
    """

    name: str
    size: int
    path: Path | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(ABC):
    """An immutable view of one checkpoint: what is listed never changes, and every access agrees with it.

    A source of another kind (an object store, say) subclasses it and writes `_bring` and `_read`; names,
    bounds and messages are looked after here. One whose files a load shall read where they lie, with nothing
    written to disk, says in `reads_at_once` how many reads it answers at once, and writes `_read_into` and `_check`.

    Attributes:
        location: The folder or repository id, as the user said it.
        commit: The commit that everything is read from, or None for a plain folder.
        root: The folder in which fetched files lie, or None if the source has none.
        files: Every file by its name.
    """

    location: str
    commit: str | None
    root: Path | None
    files: Mapping[str, SourceFile] = field(repr=False)

    @property
    def partial(self) -> bool:
        """Whether a file that is not listed may yet be one of the commit, as in a download cache without the network."""
        return False

    @property
    def reads_at_once(self) -> int:
        """How many reads a load may have on their way at once; 0 where it fetches the files first."""
        return 0

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return name in self.files or self._unlisted(name) is not None

    def file(self, name: str) -> SourceFile:
        """Return one file.

        Raises:
            SourceError: The name is unsafe, or there is no such file.
        """
        safe = safe_name(name, where=self.location)
        found = self.files.get(safe) or self._unlisted(safe)
        if found is None:
            raise self._missing(name)
        return found

    def fetch(self, names: Iterable[str]) -> Mapping[str, Path]:
        """Return where files lie on this machine, in the order asked for, fetching those that are absent.

        Raises:
            SourceError: A file is not listed, cannot be fetched, or is not as long as its source says.
        """
        files = {name: self.file(name) for name in names}
        return dict(zip(files, self._bring(list(files.values())), strict=True)) if files else {}

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on, without fetching the rest of the file.

        Raises:
            SourceError: The file is not listed, is shorter than the range, or cannot be read.
        """
        file = self._long_enough(name, offset + length)
        return self._read(file, offset, length) if length else b""

    def read_into(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers, one after the other, with the bytes from `offset` on. Several threads may call it at once.

        Raises:
            ChangedFileError: The file is no longer what was listed.
            SourceError: The file is not listed, is shorter than the range, or cannot be read.
        """
        length = sum(buffer.nbytes for buffer in buffers)
        file = self._long_enough(name, offset + length)
        if length:
            self._read_into(file, offset, buffers)

    def check_unchanged(self, names: Iterable[str]) -> None:
        """Make sure that files are what they were when they were listed.

        Raises:
            ChangedFileError: One is not.
            SourceError: One is gone, or cannot be asked about.
        """
        files = [self.file(name) for name in names]
        if self.reads_at_once and files:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(self.reads_at_once, thread_name_prefix="loadstone-check") as pool:
                for _ in pool.map(self._check, files):
                    pass

    def read_text(self, name: str) -> str:
        """Return the whole of a small text file, such as `config.json`.

        Raises:
            SourceError: The file is not listed, cannot be fetched or read, is no UTF-8, or is longer than `TEXT_LIMIT`.
        """
        file = self.file(name)
        where = f"{self.location}: {file.name}"
        if file.size > TEXT_LIMIT:
            raise SourceError(
                f"'{file.name}' is too long to be what its name says",
                where=where,
                expected=f"at most {TEXT_LIMIT:,} bytes of text",
                found=f"{file.size:,} bytes",
            )
        try:
            return self.read_bytes(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"'{file.name}' is not text",
                where=where,
                expected="UTF-8",
                found=f"a byte that does not fit, at offset {error.start:,}",
                hint="replace the file by the original",
            ) from error

    def read_bytes(self, name: str) -> bytes:
        """Return the whole of a file.

        Raises:
            SourceError: The file is not listed, or cannot be fetched or read.
        """
        file = self.file(name)
        if self.reads_at_once:
            return self.read_range(name, 0, file.size)
        [path] = self._bring([file])
        return read_whole(path, file.size)

    def _long_enough(self, name: str, end: int) -> SourceFile:
        """Return a file in which there are bytes up to `end`."""
        file = self.file(name)
        if end <= file.size:
            return file
        raise SourceError(
            f"'{file.name}' is shorter than what is to be read from it",
            where=f"{self.location}: {file.name}",
            expected=f"at least {end:,} bytes",
            found=f"{file.size:,} bytes",
            hint="the file was cut short where it was written or copied: replace it",
        )

    def _unlisted(self, name: str) -> SourceFile | None:
        """Return a file that the listing leaves out; a source whose listings are whole has none."""
        return None

    @abstractmethod
    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        """Return one local path per file, in order, fetching those that are not on this machine."""

    @abstractmethod
    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        """Return bytes of a listed file; `length` is positive and the range lies within its size."""

    def _read_into(self, file: SourceFile, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers that are not all empty; the range lies within the file's size."""
        data = memoryview(self._read(file, offset, sum(buffer.nbytes for buffer in buffers)))
        for buffer in buffers:
            buffer[:], data = data[: buffer.nbytes], data[buffer.nbytes :]

    def _check(self, file: SourceFile) -> None:
        """Raise ChangedFileError if a file is not what was listed; several threads call it at once.

        A source whose files are fetched, or are those of one commit, has nothing to do.
        """
        return

    def _place(self) -> object:
        """Say where the files are, for a message."""
        return self.root or self.location

    def _missing(self, name: str) -> SourceError:
        """Make the error for a name that is not listed."""
        return SourceError(
            f"'{self.location}' has no file '{name}'",
            where=self._place(),
            found=summary(self.files),
            hint=nearest(name, self.files) or "check the name, and `subfolder` if the file lies deeper",
        )


def summary(names: Iterable[str], *, limit: int = 6) -> str:
    """Name a few files and count the rest, for a message."""
    listed = sorted(names)
    if not listed:
        return "no files"
    rest = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


Name = str | os.PathLike[str] | Snapshot
"""How a caller names a checkpoint: a folder, a repository, an address, or what was opened already."""
