"""Checkpoints that lie in this process: `mem://name` opens what was put on the shelf under it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadstone.errors import SourceError
from loadstone.source import Snapshot, SourceFile

SHELF: dict[str, Mapping[str, bytes]] = {}
READ: list[str] = []
"""Names of the files of which a range was read, and of those that were brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot(Snapshot):
    """One checkpoint of the shelf, of a commit that never changes."""

    root: Path
    contents: Mapping[str, bytes]

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        for file in files:
            READ.append(f"brought {file.name}")
            (self.root / file.name).write_bytes(self.contents[file.name])
        return [self.root / file.name for file in files]

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        READ.append(f"read {file.name}")
        return self.contents[file.name][offset : offset + length]


def open_memory(address: str, *, revision: str | None = None) -> MemorySnapshot:
    """Open what lies under an address."""
    name = address.removeprefix("mem://") + (f"@{revision}" if revision else "")
    if name not in SHELF:
        raise SourceError(f"nothing lies on the shelf as {name!r}", where=address)
    files = {file: SourceFile(name=file, size=len(data)) for file, data in SHELF[name].items()}
    root = Path(tempfile.mkdtemp())
    return MemorySnapshot(location=address, commit="1", root=root, files=files, contents=SHELF[name])
