"""The values of a msgpack file, walked without copying what they hold.

Source: https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from loadstone.checkpoint.formats.fault import Place

Read = Callable[[int, int], bytes]
"""Returns the bytes of a file from an offset on, as many as asked for."""

BLOCK = 4096
"""Bytes asked for at once: what stands between two arrays."""

MAX_VALUES = 200_000
"""Values that a file may hold, those inside others included."""

# First byte -> kind, and how many bytes after it say the length (or are the number itself).
_SIZED = {
    **{0xC4 + place: ("bin", 1 << place) for place in range(3)},
    **{0xC7 + place: ("ext", 1 << place) for place in range(3)},
    **{0xD9 + place: ("str", 1 << place) for place in range(3)},
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}
_NUMBERS = {
    **{0xCC + place: ("int", 1 << place) for place in range(4)},
    **{0xD0 + place: ("int", 1 << place) for place in range(4)},
    0xCA: ("float", 4),
    0xCB: ("float", 8),
}
_PLAIN = {0xC0: "nil", 0xC2: "bool", 0xC3: "bool"}


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """What begins at one place of a file.

    Attributes:
        kind: "map", "array", "ext", "str", "bin", "int", "float", "bool" or "nil".
        count: Entries of a map, items of an array, bytes of an ext, a str or a bin; a number's value where it is whole.
        code: The type of an ext.
    """

    kind: str
    count: int = 0
    code: int = 0


class Walk:
    """A file from one of its bytes to another, read forward in small blocks; what is passed over is not read.

    Args:
        read: Gives bytes of the file.
        size: Bytes of the file.
        place: The file, for complaints.
    """

    def __init__(self, read: Read, size: int, place: Place) -> None:
        self._read, self._size, self._place = read, size, place
        self._block, self._start = b"", 0
        self.offset, self._values = 0, 0

    @property
    def left(self) -> int:
        """Bytes behind the next one, that one included."""
        return self._size - self.offset

    def value(self) -> Value:
        """Return what begins here, and go to its first byte behind what says its kind and length.

        Raises:
            CheckpointError: If nothing of msgpack does, it does not fit the file, or there is too much in the file.
        """
        self._values += 1
        if self._values > MAX_VALUES:
            self._place.fail(
                "holds more values than weights need",
                expected=f"at most {MAX_VALUES:,}",
                hint="save it again",
            )
        first = self.take(1)[0]
        found = self._of(first)
        # An entry has two bytes at least, an item one.
        least = {"map": 2, "array": 1, "ext": 1, "str": 1, "bin": 1}.get(found.kind, 0)
        if found.count * least > self.left:
            unit = {"map": "entries", "array": "items"}.get(found.kind, "bytes")
            self._place.fail(
                "ends before what it holds does",
                expected=f"{found.count:,} {unit} ({found.kind}) from byte {self.offset:,} on",
                found=f"{self.left:,} bytes",
            )
        return found

    def take(self, length: int) -> bytes:
        """Return the next bytes; no more are asked for than a key or a header has.

        Raises:
            CheckpointError: If there are fewer.
        """
        if length > self.left:
            self._place.fail("was cut short", expected=f"{length:,} bytes more", found=f"{self.left:,}")
        if not self._start <= self.offset <= self.offset + length <= self._start + len(self._block):
            self._start = self.offset
            self._block = self._read(self.offset, min(max(BLOCK, length), self.left))
        at = self.offset - self._start
        self.offset += length
        return self._block[at : at + length]

    def skip(self, length: int) -> None:
        """Go on behind the next bytes, of which `value` said that they are there."""
        self.offset += length

    def _of(self, first: int) -> Value:
        if first < 0x80 or first >= 0xE0:
            return Value("int", first if first < 0x80 else first - 0x100)
        if first < 0xC0:
            mask, kind = (0x1F, "str") if first >= 0xA0 else (0x0F, "array" if first >= 0x90 else "map")
            return Value(kind, first & mask)
        if first in _SIZED:
            kind, length = _SIZED[first]
            return self._ext(self._number(length)) if kind == "ext" else Value(kind, self._number(length))
        if first in _NUMBERS:
            kind, length = _NUMBERS[first]
            number = int.from_bytes(self.take(length), "big", signed=first >= 0xD0)
            return Value(kind, number if kind == "int" else 0)
        if 0xD4 <= first <= 0xD8:
            return self._ext(1 << (first - 0xD4))
        if first in _PLAIN:
            return Value(_PLAIN[first], first & 1)
        return self._place.fail("is no msgpack", found=f"byte {first:#x} at {self.offset - 1:,}")

    def _ext(self, length: int) -> Value:
        return Value("ext", length, int.from_bytes(self.take(1), "big", signed=True))

    def _number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")
