"""Writing what `torch.save` writes: a zip archive of a pickle that describes tensors and one stored entry for each storage.

No torch is needed, and none of it runs: the instructions are put down one by one. Data lie at multiples of 64 bytes.

Source: torch/serialization.py, torch/_utils.py; https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

from loadstone.checkpoint.formats.pickle import names
from loadstone.checkpoint.formats.pickle.known import TYPED
from loadstone.checkpoint.formats.pickle.places import TEXTS
from loadstone.checkpoint.formats.texts import noted
from loadstone.checkpoint.formats.writer import ALIGNMENT, BLOCK, Block, Shard, StoredTensor, Writer, packed
from loadstone.dtypes import DTYPES

_LOCAL, _CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_MOST = 0xFFFFFFFF
_VERSION, _WIDE_VERSION = 20, 45
_DATE = 1 << 5 | 1  # the first of January 1980: equal tensors make equal files
_PADDING = 0x4246  # "FB", as torch pads


class PickleWriter(Writer):
    """`pytorch_model.bin`, or shards and `pytorch_model.bin.index.json`. Aliases share their storage."""

    def file_names(self, number: int, *, variant: str | None) -> list[str]:
        """Return `pytorch_model.bin`, or the names of shards."""
        return names.file_names(number, variant=variant)

    def index_name(self, variant: str | None) -> str:
        """Return `pytorch_model.bin.index.json`."""
        return names.weight_names(variant)[1]

    def problems(
        self, tensors: Sequence[StoredTensor], metadata: Mapping[str, str], *, variant: str | None
    ) -> Iterator[str]:
        """Yield the tensors of dtypes that torch has not."""
        return packed(tensors)

    def blocks(self, shard: Shard, metadata: Mapping[str, str]) -> Iterator[Block]:
        """Yield the entries, then the directory."""
        archive = _Archive()
        yield from archive.entry("data.pkl", _pickled(shard))
        yield from archive.entry("byteorder", b"little")
        if texts := noted(metadata):
            yield from archive.entry(TEXTS, texts.encode())
        for number, tensor in enumerate(shard.tensors):
            data = tensor.data()
            yield from archive.entry(f"data/{number}", data)
            del data  # or it would be held while the next one is read
        yield from archive.entry("version", b"3\n")
        yield archive.directory()


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """What the directory says of one entry: its name, sum, size, and where its header begins."""

    name: bytes
    crc: int
    size: int
    header: int


class _Archive:
    """A zip archive that is written forward."""

    def __init__(self) -> None:
        self._at = 0
        self._entries: list[_Entry] = []

    def entry(self, name: str, data: Block) -> Iterator[Block]:
        """Yield a header and the data of one entry, which begin at a multiple of 64."""
        made = _Entry(f"pytorch_model/{name}".encode(), zlib.crc32(data), len(data), self._at)
        self._entries.append(made)
        header = _header(made)
        self._at += len(header) + len(data)
        yield header
        for start in range(0, len(data), BLOCK):
            yield data[start : start + BLOCK]

    def directory(self) -> bytes:
        """Return the directory and what ends the archive."""
        records = b"".join(map(_record, self._entries))
        number, size, start = len(self._entries), len(records), self._at
        end64 = _END64.pack(
            b"PK\x06\x06", _END64.size - 12, _WIDE_VERSION, _WIDE_VERSION, 0, 0, number, number, size, start
        )
        locator = _LOCATOR.pack(b"PK\x06\x07", 0, start + size, 1)
        few = min(number, 0xFFFF)
        end = _END.pack(b"PK\x05\x06", 0, 0, few, few, min(size, _MOST), min(start, _MOST), 0)
        return records + end64 + locator + end


def _header(entry: _Entry) -> bytes:
    wide = entry.size >= _MOST
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.size) if wide else b""
    bare = entry.header + _LOCAL.size + len(entry.name) + len(extra) + 4
    padding = -bare % ALIGNMENT
    extra += struct.pack("<2H", _PADDING, padding) + b"Z" * padding
    size = _MOST if wide else entry.size
    version = _WIDE_VERSION if wide else _VERSION
    fields = (version, 0, 0, 0, _DATE, entry.crc, size, size, len(entry.name), len(extra))
    return _LOCAL.pack(b"PK\x03\x04", *fields) + entry.name + extra


def _record(entry: _Entry) -> bytes:
    wide = [value for value in (entry.size, entry.size, entry.header) if value >= _MOST]
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, header = min(entry.size, _MOST), min(entry.header, _MOST)
    version = _WIDE_VERSION if wide else _VERSION
    fields = (
        version,
        version,
        0,
        0,
        0,
        _DATE,
        entry.crc,
        size,
        size,
        len(entry.name),
        len(extra),
        0,
        0,
        0,
        0,
        header,
    )
    return _CENTRAL.pack(b"PK\x01\x02", *fields) + entry.name + extra


def _pickled(shard: Shard) -> bytes:
    """Return the pickle, of protocol 2: a dictionary of tensors, each a view of one whole storage."""
    numbers = {tensor.name: (str(number), tensor) for number, tensor in enumerate(shard.tensors)}
    rows = [(name, *found) for name, found in numbers.items()]
    rows += [(name, *numbers[stored]) for name, stored in shard.aliases.items()]
    items = b"".join(_text(name) + _tensor(key, tensor) for name, key, tensor in rows)
    return b"\x80\x02}(" + items + b"u."


def _tensor(key: str, tensor: StoredTensor) -> bytes:
    count, shape = math.prod(tensor.shape), tensor.shape
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    typed = TYPED.get(tensor.dtype)
    kind = (
        _global("torch.storage", "UntypedStorage") if typed is None else _global("torch", f"{typed}Storage")
    )
    length = count if typed is not None else count * DTYPES[tensor.dtype].itemsize
    storage = b"(" + _text("storage") + kind + _text(key) + _text("cpu") + _int(length) + b"tQ"
    fields = (
        storage
        + _int(0)
        + _sizes(shape)
        + _sizes(strides)
        + b"\x89"
        + _global("collections", "OrderedDict")
        + b")R"
    )
    if typed is None:
        return (
            _global("torch._utils", "_rebuild_tensor_v3")
            + b"("
            + fields
            + _global("torch", tensor.dtype)
            + b"tR"
        )
    return _global("torch._utils", "_rebuild_tensor_v2") + b"(" + fields + b"tR"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return b"X" + len(data).to_bytes(4, "little") + data


def _int(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def _sizes(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"
