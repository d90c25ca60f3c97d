"""The bytes of a pickle, asked for as they are needed."""

from __future__ import annotations

from collections.abc import Callable

from loadstone.checkpoint.formats.pickle.fault import Place

Read = Callable[[int, int], bytes]
"""Returns the bytes of a file from an offset on, as many as asked for."""

BLOCK = 256 * 1024
"""Bytes asked for at once."""

MAX_LINE = 1_000_000
"""Bytes that one line of text may have."""


class Stream:
    """A part of a file, read forward.

    Args:
        read: Gives bytes of the file.
        start: Offset of the first byte.
        stop: Offset of the byte after the last.
        place: The file.
    """

    def __init__(self, read: Read, start: int, stop: int, place: Place) -> None:
        self._read, self._next, self._stop, self._place = read, start, stop, place
        self._data, self._at = b"", 0

    @property
    def offset(self) -> int:
        """Offset in the file of the next byte."""
        return self._next - len(self._data) + self._at

    def byte(self) -> int:
        """Return the next byte."""
        if self._at == len(self._data):
            self._fill(1)
        self._at += 1
        return self._data[self._at - 1]

    def take(self, length: int) -> bytes:
        """Return that many bytes.

        Raises:
            CheckpointError: If there are fewer.
        """
        if len(self._data) - self._at < length:
            self._fill(length)
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, size: int, *, signed: bool = False) -> int:
        """Return the next bytes as a whole number, the least significant first."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> bytes:
        """Return the bytes up to the next line feed, and pass over that.

        Raises:
            CheckpointError: If there is none.
        """
        known = self._at
        while (end := self._data.find(b"\n", known)) < 0:
            known = len(self._data) - self._at
            if known > MAX_LINE:
                self._place.fail(
                    "holds a pickle with a line that does not end", found=f"more than {MAX_LINE:,} bytes"
                )
            self._fill(known + 1)
        found, self._at = self._data[self._at : end], end + 1
        return found

    def _fill(self, length: int) -> None:
        """Have that many bytes at hand, from the next one on."""
        kept = self._data[self._at :]
        missing = length - len(kept)
        left = self._stop - self._next
        if missing > left:
            self._place.fail(
                "ends early",
                expected=f"{missing:,} more bytes at offset {self._next:,}",
                found=f"{left:,} bytes of its description",
            )
        size = min(left, max(missing, BLOCK))
        self._data, self._at = kept + self._read(self._next, size), 0
        self._next += size
