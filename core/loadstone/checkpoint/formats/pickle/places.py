"""Where the storages of a file lie, in either of its two forms, and what its pickle describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from loadstone.checkpoint.formats.pickle.archive import Archive
from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.machine import MAX_BYTES, Machine
from loadstone.checkpoint.formats.pickle.stream import Read, Stream
from loadstone.checkpoint.formats.pickle.values import Storage, Table, told
from loadstone.checkpoint.formats.texts import MAX_TEXTS, texts_of
from loadstone.errors import shown

MAGIC = 0x1950A86A20F9469CFC6C
"""The first object of a file of the older form."""

PROTOCOL = 1001
"""The second."""

TEXTS = "loadstone.json"
"""The entry in which our own saves hold texts; torch looks up none of this name."""

_BIG = "load it with torch on the machine that wrote it, and save it as safetensors"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a file holds.

    Attributes:
        root: What its pickle describes.
        spans: Key of a storage -> the offset of its first byte.
        texts: What our own saves hold beside the tensors.
    """

    root: object
    spans: Mapping[str, int]
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def of_archive(read: Read, size: int, place: Place, *, far: bool, tail: int = 64 * 1024) -> Contents:
    """Read the form of today: a zip archive of a pickle and one entry for each storage."""
    archive = Archive(read, size, place, far=far, tail=tail)
    roots = [
        name.removesuffix("data.pkl")
        for name in archive.entries
        if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    if len(roots) != 1 or f"{roots[0]}constants.pkl" in archive.entries:
        program = any(name.endswith("/constants.pkl") for name in archive.entries)
        place.fail(
            "is a TorchScript program, not weights" if program else "is a zip archive, but none of weights",
            expected="one data.pkl, and its storages beside it",
            found=shown(sorted(archive.entries)[:4]),
            hint="load the checkpoint that it was made from",
        )
    [root] = roots
    order = archive.entries.get(f"{root}byteorder")
    if order is not None:
        found = read(archive.offset(order), min(order.size, 16))
        if found != b"little":
            place.fail(
                "was saved with the most significant byte first",
                found=shown(found),
                expected="little",
                hint=_BIG,
            )
    pickled = archive.entries[f"{root}data.pkl"]
    if pickled.size > MAX_BYTES:
        place.fail(
            "describes more than weights can have", expected=f"{MAX_BYTES:,} bytes", found=f"{pickled.size:,}"
        )
    start = archive.offset(pickled)
    machine = Machine(Stream(read, start, start + pickled.size, place), place)
    described = machine.run()
    spans = {}
    for key, storage in machine.storages.items():
        entry = archive.entries.get(f"{root}data/{key}")
        if entry is None:
            place.fail("lacks a storage that it describes", key=key, found="no such entry in the archive")
        _check_size(key, storage, entry.size, place)
        spans[key] = archive.offset(entry)
    beside = archive.entries.get(f"{root}{TEXTS}")
    texts = (
        {} if beside is None else texts_of(read(archive.offset(beside), min(beside.size, MAX_TEXTS)), place)
    )
    return Contents(root=described, spans=spans, texts=texts)


def of_older_form(read: Read, size: int, place: Place, *, far: bool) -> Contents:
    """Read the form before torch 1.6: five pickles, then each storage after its number of elements."""
    stream = Stream(read, 0, min(size, 2 * MAX_BYTES), place)
    _expect(Machine(stream, place).run(), MAGIC, place)
    _expect(Machine(stream, place).run(), PROTOCOL, place)
    system = Machine(stream, place).run()
    order = (
        [value for key, value in system.pairs if key == "little_endian"] if isinstance(system, Table) else []
    )
    if len(order) != 1 or order[0] is not True:
        place.fail(
            "was saved with the most significant byte first", expected="little_endian: True", hint=_BIG
        )
    machine = Machine(stream, place)
    described = machine.run()
    keys = Machine(stream, place).run()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        place.fail("does not list its storages", expected="a list of their keys", found=told(keys))
    if len(keys) != len(set(keys)) or set(keys) != set(machine.storages):
        place.fail(
            "lists other storages than it describes", found=f"{len(keys):,} for {len(machine.storages):,}"
        )
    spans, at = {}, stream.offset
    for key in keys:
        storage = machine.storages[key]
        if not far and at + 8 <= size:
            _check_size(key, storage, int.from_bytes(read(at, 8), "little") * storage.itemsize, place)
        spans[key] = at + 8
        at += 8 + storage.whole * storage.itemsize
    if at != size:
        place.fail(
            "ends early" if at > size else "has bytes after its last storage",
            expected=f"{at:,} bytes, as its description says",
            found=f"{size:,} bytes",
        )
    return Contents(root=described, spans=spans)


def _expect(found: object, expected: int, place: Place) -> None:
    if type(found) is not int or found != expected:
        place.fail(
            "is a pickle, but none that torch.save wrote",
            expected="its magic number and protocol first",
            found=told(found),
            hint="save the model's state_dict() with torch.save, best as safetensors",
        )


def _check_size(key: str, storage: Storage, found: int, place: Place) -> None:
    expected = storage.whole * storage.itemsize
    if found != expected:
        place.fail(
            "holds a storage of another size than it describes",
            key=key,
            expected=f"{expected:,} bytes",
            found=f"{found:,} bytes",
        )
