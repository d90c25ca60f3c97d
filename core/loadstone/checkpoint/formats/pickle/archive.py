"""The zip archives that `torch.save` and `numpy.savez` write: where the bytes of each entry lie.

Only entries that are stored as they are can be read where they lie, and these write no others. Whatever else a zip
archive can be (compressed, encrypted, in several parts, with entries over one another) is refused.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.pickle.stream import Read
from loadstone.errors import shown

MAX_ENTRIES = 200_000
"""Files that an archive may hold."""

MAX_DIRECTORY = 32_000_000
"""Bytes that its directory may have."""

_TAIL = 64 * 1024
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_CENTRAL, _LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_ALIGNED = 64
_DESCRIPTORS = (0, 16, 24)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of an archive.

    Attributes:
        name: Its name.
        size: Its bytes.
        header: Offset of its header.
        stop: Offset of what comes after it: another header, or the directory.
        flags: What the directory says of it.
    """

    name: str
    size: int
    header: int
    stop: int
    flags: int


class Archive:
    """A zip archive, its directory read and checked.

    Args:
        read: Gives bytes of the file.
        size: The file's length in bytes.
        place: The file.
        far: Whether each read is a request over a network: then what can be worked out is not read.
        tail: Bytes at the end that are looked at first; the end of the directory lies in them.
        writer: What writes such archives.
        again: How to write it again as it should be.
    """

    def __init__(
        self,
        read: Read,
        size: int,
        place: Place,
        *,
        far: bool = False,
        tail: int = _TAIL,
        writer: str = "torch.save",
        again: str = "save it again with torch.save, best as safetensors; do not pack it again",
    ) -> None:
        self._read, self._size, self._place, self._far = read, size, place, far
        self._tail, self._writer, self._again = tail, writer, again
        self.entries: Mapping[str, Entry] = {entry.name: entry for entry in self._directory()}

    def offset(self, entry: Entry) -> int:
        """Return the offset of an entry's first byte.

        Raises:
            CheckpointError: If its own header is not what the directory says.
        """
        name = entry.name.encode()
        if self._far:
            least = entry.header + _LOCAL.size + len(name)
            starts = [entry.stop - descriptor - entry.size for descriptor in _DESCRIPTORS]
            aligned = [start for start in starts if start >= least and start % _ALIGNED == 0]
            if len(aligned) == 1:  # as torch writes them
                return aligned[0]
        if entry.header + _LOCAL.size + len(name) > entry.stop:
            self._fail(entry.name, "overlaps another one")
        data = self._read(entry.header, _LOCAL.size + len(name))
        fields: tuple[Any, ...] = _LOCAL.unpack(data[: _LOCAL.size])
        signature, flags, method, (length, extra) = fields[0], fields[2], fields[3], fields[9:]
        if signature != b"PK\x03\x04" or length != len(name) or data[_LOCAL.size :] != name:
            self._fail(entry.name, "has a header of its own that says something else")
        if method or flags & _ENCRYPTED:
            self._fail(entry.name, "is compressed or encrypted")
        start = entry.header + _LOCAL.size + len(name) + int(extra)
        if start + entry.size > entry.stop:
            self._fail(entry.name, "overlaps another one")
        return start

    def _directory(self) -> Iterator[Entry]:
        count, start, stop = self._ends()
        if count > MAX_ENTRIES or stop - start > MAX_DIRECTORY or count * _CENTRAL.size > stop - start:
            self._place.fail(
                "is a zip archive with an impossible directory",
                expected=f"at most {MAX_ENTRIES:,} entries in {MAX_DIRECTORY:,} bytes",
                found=f"{count:,} in {stop - start:,}",
            )
        data, at = self._read(start, stop - start), 0
        found: list[tuple[int, str, int, int]] = []
        names: set[str] = set()
        for _ in range(count):
            at, record = self._record(data, at)
            header, name, _, _ = record
            if name in names:
                self._fail(name, "is there twice")
            names.add(name)
            found.append(record)
        if at != len(data):
            self._place.fail("is a zip archive whose directory has more in it than it says")
        found.sort()
        stops = [*(header for header, *_ in found[1:]), start]
        for (header, name, size, flags), end in zip(found, stops, strict=True):
            if header + _LOCAL.size + len(name.encode()) + size > end:
                self._fail(
                    name, "overlaps another one" if end != start else "does not end before the directory"
                )
            yield Entry(name=name, size=size, header=header, stop=end, flags=flags)

    def _ends(self) -> tuple[int, int, int]:
        """Return the number of entries, and where the directory begins and ends."""
        length = min(self._size, self._tail)
        tail, base = self._read(self._size - length, length), self._size - length
        at = length - _END.size
        if at < 0 or tail[at : at + 4] != b"PK\x05\x06":
            self._place.fail(
                "is a zip archive without an end",
                expected="the end of its directory, in the last 22 bytes",
                hint="the download was cut short, or something was appended: fetch the file again",
            )
        _, disk, first_disk, here, count, size, start, comment = _END.unpack(tail[at:])
        end = base + at
        locator = at - _LOCATOR.size
        if locator >= _END64.size and tail[locator : locator + 4] == b"PK\x06\x07":
            _, disk, end, disks = _LOCATOR.unpack(tail[locator:at])
            inside = end - base
            if disks > 1 or inside != locator - _END64.size or tail[inside : inside + 4] != b"PK\x06\x06":
                self._place.fail("is a zip archive whose end is not where it says")
            _, _, _, _, disk, first_disk, here, count, size, start = _END64.unpack(
                tail[inside : inside + _END64.size]
            )
        if disk or first_disk or here != count or comment or start + size != end:
            self._place.fail("is a zip archive in several parts, or its directory is not where it says")
        return count, start, end

    def _record(self, data: bytes, at: int) -> tuple[int, tuple[int, str, int, int]]:
        """Return where the next record of the directory begins, and what this one says."""
        if len(data) - at < _CENTRAL.size or data[at : at + 4] != b"PK\x01\x02":
            self._place.fail("is a zip archive whose directory is damaged")
        fields = _CENTRAL.unpack_from(data, at)
        flags, method = fields[3], fields[4]
        packed, size, lengths, disk, header = fields[8], fields[9], fields[10:13], fields[13], fields[16]
        at += _CENTRAL.size
        end = at + sum(lengths)
        raw, extra = data[at : at + lengths[0]], data[at + lengths[0] : at + lengths[0] + lengths[1]]
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self._place.fail(
                "is a zip archive with a name that is no text", found=shown(raw[:60]), cause=error
            )
        size, packed, header = self._large(name, extra, size, packed, header)
        if flags & _ENCRYPTED:
            self._fail(name, "is encrypted")
        if method or packed != size:
            self._fail(name, "is compressed")
        if disk or end > len(data):
            self._fail(name, "is damaged")
        if name.startswith("/") or "\\" in name or "\0" in name or ":" in name or ".." in name.split("/"):
            self._fail(name, "has a name that leads out of it")
        return end, (header, name, size, flags)

    def _large(self, name: str, extra: bytes, *values: int) -> list[int]:
        """Return sizes and an offset, those that need more than 32 bits from the field that holds them."""
        if 0xFFFFFFFF not in values:
            return list(values)
        at = 0
        while len(extra) - at >= 4:
            kind, length = struct.unpack_from("<2H", extra, at)
            if kind == 1 and length % 8 == 0 and at + 4 + length <= len(extra):
                wide = list(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
                if len(wide) >= sum(value == 0xFFFFFFFF for value in values):
                    return [wide.pop(0) if value == 0xFFFFFFFF else value for value in values]
            at += 4 + length
        self._fail(name, "has no size")

    def _fail(self, name: str, what: str) -> NoReturn:
        self._place.fail(
            f"is a zip archive of which an entry {what}",
            key=name[:200],
            expected=f"entries as {self._writer} writes them: stored, one after the other, each once",
            hint=self._again,
        )
