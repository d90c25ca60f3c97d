"""The first bytes of a file, read from wherever it lies in a few large pieces, and no more of them than are asked for."""

from __future__ import annotations

import struct
from typing import Any

from loadstone.source import Snapshot
from loadstone_gguf.faults import Faults

MAX_HEADER = 128 << 20
"""Bytes that may describe the tensors. The largest vocabularies, with their merges and scores, take some 20 million."""
FIRST_READ = 1 << 20
MAX_TEXTS = 4_000_000
"""Texts that all arrays together may hold; the largest vocabularies have half a million, and as many merges."""


class Cursor:
    """A place in a file, which moves on with what is taken.

    Args:
        snapshot: The files.
        file: One of them.
        faults: Refuses it.

    Attributes:
        position: Bytes from the start of the file.
        size: Bytes of the file.
    """

    def __init__(self, snapshot: Snapshot, file: str, faults: Faults) -> None:
        self.position, self.size = 0, snapshot.file(file).size
        self._snapshot, self._file, self._faults = snapshot, file, faults
        self._held = bytearray()
        self._texts = 0

    def take(self, form: str) -> tuple[Any, ...]:
        """Return the next numbers, in the form that `struct` knows, little endian."""
        form = f"<{form}"
        size = struct.calcsize(form)
        self._need(size)
        found = struct.unpack_from(form, self._held, self.position)
        self.position += size
        return found

    def text(self, limit: int) -> bytes:
        """Return the next text, of at most so many bytes."""
        (length,) = self.take("Q")
        if length > limit:
            self._faults.refuse(
                "holds a longer text than one has", expected=f"at most {limit:,} bytes", found=f"{length:,}"
            )
        self._need(length)
        self.position += length
        return bytes(self._held[self.position - length : self.position])

    def skip(self, size: int) -> None:
        """Pass over bytes, of which the file must have as many."""
        self._need(size)
        self.position += size

    def skip_texts(self, number: int) -> None:
        """Pass over texts."""
        self._texts += number
        if self._texts > MAX_TEXTS or number * 8 > self.size - self.position:
            self._faults.refuse("says that it holds more texts than it can", found=f"an array of {number:,}")
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(number):
            if self.position + 8 > len(self._held):
                self._need(8)
            self.position += 8 + length_at(self._held, self.position)[0]
        self._need(0)

    def _need(self, size: int) -> None:
        """Have the file's bytes up to so many after the place where we are."""
        end = self.position + size
        if end <= len(self._held):
            return
        if end > self.size:
            self._faults.refuse(
                "ends before what describes its tensors does",
                expected=f"{end:,} bytes",
                found=f"{self.size:,}",
            )
        if end > MAX_HEADER:
            self._faults.refuse("says too much before its tensors", expected=f"at most {MAX_HEADER:,} bytes")
        upto = min(self.size, max(end, 2 * len(self._held), FIRST_READ))
        self._held += self._snapshot.read_range(self._file, len(self._held), upto - len(self._held))
