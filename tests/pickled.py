"""Files as `torch.save` writes them, made by hand and without torch, so that each can be wrong in one way; and their tensors."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.checkpoint.formats.pickle.format import NOTE
from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.recipe import Recipe
from loadstone.dtypes import to_numpy
from loadstone.read.engine import Traffic, read_tensors
from loadstone.read.files import OpenFiles, identity
from loadstone.read.pieces import Request
from loadstone.source import resolve

MAGIC = 0x1950A86A20F9469CFC6C
ONES = np.arange(1, 13, dtype=np.float32)
"""The one storage of the files here."""


# A pickle, instruction by instruction.
def named(module: str, name: str) -> bytes:
    """Return a global name."""
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    """Return a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value: int) -> bytes:
    """Return a whole number."""
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def pair(*items: bytes) -> bytes:
    """Return a tuple."""
    return b"(" + b"".join(items) + b"t"


def numbers(values: Iterable[int]) -> bytes:
    """Return a tuple of whole numbers."""
    return pair(*map(number, values))


def reduced(function: bytes, *arguments: bytes) -> bytes:
    """Return a call."""
    return function + pair(*arguments) + b"R"


def table(entries: Mapping[str, bytes]) -> bytes:
    """Return a dictionary."""
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def persistent(
    *,
    tag: str = "storage",
    kind: str = "FloatStorage",
    key: bytes = text("0"),
    count: int = 12,
    more: bytes = b"",
) -> bytes:
    """Return a storage."""
    return pair(text(tag), named("torch", kind), key, text("cpu"), number(count), more) + b"Q"


ORDERED = reduced(named("collections", "OrderedDict"))


def tensor(
    shape: Iterable[int] = (3, 4),
    strides: Iterable[int] = (4, 1),
    *,
    first: int = 0,
    storage: bytes | None = None,
    hooks: bytes = ORDERED,
) -> bytes:
    """Return a tensor."""
    where = persistent() if storage is None else storage
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return reduced(rebuild, where, number(first), numbers(shape), numbers(strides), b"\x89", hooks)


def pickled(body: bytes, protocol: int = 2) -> bytes:
    """Return a pickle."""
    return b"\x80" + bytes([protocol]) + body + b"."


GOOD = pickled(table({"weight": tensor()}))


# A zip archive, as torch's writer lays it out.
@dataclasses.dataclass(kw_only=True)
class Entry:
    """One entry, and what is said of it in its own header and in the directory."""

    name: str
    data: bytes
    flags: int = 0x808
    method: int = 0
    own_name: str | None = None
    own_method: int | None = None
    own_flags: int | None = None
    size: int | None = None
    packed: int | None = None
    header: int | None = None
    extra: bytes = b""
    disk: int = 0


def large(data: bytes) -> bytes:
    """Return an archive as those of more than 4 GB end: sizes and offsets of 64 bits, in a second end before the last."""
    tail = len(data) - 22
    _, _, _, count, _, _, start, _ = struct.unpack("<4s4H2LH", data[tail:])
    directory, at = bytearray(), start
    while at < tail:
        record = list(struct.unpack_from("<4s6H3L5H2L", data, at))
        name = data[at + 46 : at + 46 + record[10]]
        extra = struct.pack("<2H3Q", 1, 24, record[9], record[8], record[16])
        at += 46 + record[10] + record[11]
        record[8] = record[9] = record[16] = 0xFFFFFFFF
        record[11] = len(extra)
        directory += struct.pack("<4s6H3L5H2L", *record) + name + extra
    ends = start + len(directory)
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, ends, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:start] + bytes(directory) + end + locator + last


def archive(
    entries: Iterable[Entry], *, comment: bytes = b"", count: int | None = None, shift: int = 0
) -> bytes:
    """Return an archive of them."""
    out, directory, total = bytearray(), bytearray(), 0
    for entry in entries:
        header, total = len(out), total + 1
        name = (entry.own_name or entry.name).encode("utf-8", "surrogateescape")
        padding = -(header + 30 + len(name) + 4) % 64
        method = entry.method if entry.own_method is None else entry.own_method
        flags = entry.flags if entry.own_flags is None else entry.own_flags
        out += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 0, flags, method, 0, 0, 0, 0, 0, len(name), padding + 4
        )
        out += name + b"FB" + padding.to_bytes(2, "little") + b"Z" * padding + entry.data
        sizes = zlib.crc32(entry.data), len(entry.data), len(entry.data)
        out += struct.pack("<4s3L", b"PK\x07\x08", *sizes)
        size = len(entry.data) if entry.size is None else entry.size
        packed = size if entry.packed is None else entry.packed
        at = header if entry.header is None else entry.header
        name = entry.name.encode("utf-8", "surrogateescape")
        head = (b"PK\x01\x02", 0, 0, entry.flags, entry.method, 0, 0, sizes[0], packed, size)
        directory += struct.pack("<4s6H3L5H2L", *head, len(name), len(entry.extra), 0, entry.disk, 0, 0, at)
        directory += name + entry.extra
    number_of = total if count is None else count
    end = (b"PK\x05\x06", 0, 0, number_of, number_of, len(directory), len(out) + shift, len(comment))
    return bytes(out + directory + struct.pack("<4s4H2LH", *end) + comment)


def entries_of(
    description: bytes = GOOD, storages: Mapping[str, bytes] | None = None, *, order: bytes = b"little"
) -> list[Entry]:
    """Return the entries of a checkpoint."""
    data = {"0": ONES.tobytes()} if storages is None else storages
    return [
        Entry(name="archive/data.pkl", data=description),
        Entry(name="archive/byteorder", data=order),
        *(Entry(name=f"archive/data/{key}", data=value) for key, value in data.items()),
        Entry(name="archive/version", data=b"3\n"),
    ]


def older(
    description: bytes = GOOD,
    *,
    magic: int = MAGIC,
    protocol: int = 1001,
    little: bytes = b"\x88",
    keys: Iterable[str] = ("0",),
    count: int = 12,
    data: bytes = ONES.tobytes(),
) -> bytes:
    """Return a file of the form before torch 1.6."""
    system = table({"protocol_version": number(1001), "little_endian": little, "type_sizes": table({})})
    front = pickled(number(magic)) + pickled(number(protocol)) + pickled(system)
    listed = pickled(b"](" + b"".join(map(text, keys)) + b"e")
    return front + description + listed + count.to_bytes(8, "little") + data


def held(folder: Path | str, **arguments: object) -> dict[str, np.ndarray]:
    """Return every tensor of a checkpoint, read by the engine, under each of its names."""
    snapshot = resolve(folder)
    index = open_checkpoint(snapshot, **arguments)
    requests = [
        Request(name=name, recipe=Recipe(sources=(info,)), shape=info.shape, mappable=False)
        for name, info in index.tensors.items()
    ]
    paths = snapshot.fetch(index.files)
    with OpenFiles(paths, {name: identity(path) for name, path in paths.items()}) as files:
        found = {
            one.name: one.numpy() for one in read_tensors(files, requests, alignment=0, traffic=Traffic())
        }
    return found | {alias: found[name] for alias, name in index.aliases.items()}


KINDS = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"}


def resaved(source: Path, target: Path, form: str = "zip", tied: Mapping[str, str] | None = None) -> Path:
    """Write a checkpoint's tensors as torch.save would, every second matrix as the transpose of what is stored.

    Args:
        source: Its folder.
        target: The folder to make.
        form: "zip" or "older".
        tied: Name -> the stored tensor that it is another name of.
    """
    snapshot = resolve(source)
    entries, storages, counts = {}, {}, {}
    for place, info in enumerate(open_checkpoint(snapshot).tensors.values()):
        array = np.frombuffer(snapshot.read_range(info.file, info.offset, info.nbytes), to_numpy(info.dtype))
        array = array.reshape(info.shape)
        turned = len(info.shape) == 2 and place % 2
        storages[str(place)] = (array.T if turned else array).tobytes()
        counts[str(place)] = array.size
        steps = np.empty(info.shape[:: -1 if turned else 1], np.int8).strides
        storage = persistent(kind=f"{KINDS[info.dtype]}Storage", key=text(str(place)), count=array.size)
        entries[info.name] = tensor(info.shape, steps[:: -1 if turned else 1], storage=storage)
    entries |= {name: entries[stored] for name, stored in (tied or {}).items()}
    target.mkdir()
    for name in ("config.json", "generation_config.json"):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())
    description = pickled(table(entries))
    if form == "zip":
        data = archive(entries_of(description, storages))
    else:
        blocks = [counts[key].to_bytes(8, "little") + storages[key] for key in storages]
        data = older(description, keys=storages)[: -8 - ONES.nbytes] + b"".join(blocks)
    (target / "pytorch_model.bin").write_bytes(data)
    return target


def agree(model_class: Any, source: Path, folder: Path, root: Path, **arguments: Any) -> Any:
    """Hold a model that is loaded from pickles against the same of safetensors: what both save is the same file.

    Returns:
        The one from pickles.
    """
    models = [model_class.from_pretrained(place, **arguments) for place in (folder, source)]
    assert [NOTE in model.load_report.notes for model in models] == [True, False]
    for number_of, model in enumerate(models):
        model.save_pretrained(root / str(number_of))
    saved = [(root / str(number_of) / "model.safetensors").read_bytes() for number_of in range(2)]
    assert saved[0] == saved[1]
    return models[0]
