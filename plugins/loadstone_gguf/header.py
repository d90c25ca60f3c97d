"""What a GGUF file says before its tensors: values under keys, and where each tensor lies. Parsed without trust.

gguf-py's reader maps a local file and keeps every token; this one reads a file wherever it lies, keeps what a load needs,
and refuses what does not add up.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from typing import Any

from loadstone.source import Snapshot
from loadstone_gguf.cursor import Cursor
from loadstone_gguf.faults import Faults
from loadstone_gguf.kinds import KINDS, Kind

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS, MAX_KEY, MAX_VALUE = 10_000, 1024, 8 << 20
MAX_TENSORS, MAX_NAME, MAX_AXES = 100_000, 512, 4
KEPT = 4096
"""Numbers that an array may have to be kept: one for each layer, say. Of a longer one, and of texts, the length is."""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The types of values that are one number, in the form that `struct` knows."""
TEXT, ARRAY = 8, 9


@dataclasses.dataclass(frozen=True, slots=True)
class Length:
    """What is kept of a long array: how many values it has."""

    number: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor as the file has it.

    Attributes:
        name: Its name there.
        kind: How its numbers lie.
        shape: Sizes of its axes, the last one running fastest, as everywhere in loadstone.
        offset: Bytes from the start of the file.
        nbytes: Its bytes.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All that is needed of what a file says.

    Attributes:
        values: Key -> number, truth, text, list of numbers or `Length`.
        tensors: In the order in which they lie.
    """

    values: Mapping[str, Any]
    tensors: tuple[Stored, ...]


def read_header(snapshot: Snapshot, file: str) -> Header:
    """Read what a file says of its tensors.

    Raises:
        CheckpointError: If it is damaged, of another version, or holds what a GGUF file cannot.
        SourceError: If it cannot be read.
    """
    faults = Faults(file=file, where=snapshot.location)
    cursor = Cursor(snapshot, file, faults)
    tensors, keys = _start(cursor, faults)
    values = _values(cursor, faults, keys)
    return Header(values=values, tensors=_tensors(cursor, faults, tensors, _alignment(values, faults)))


def _start(cursor: Cursor, faults: Faults) -> tuple[int, int]:
    """Return how many tensors and how many keys there are."""
    magic, version = cursor.take("4sI")
    if magic != MAGIC:
        faults.refuse("is no GGUF file", expected="GGUF in its first four bytes", found=repr(magic))
    if version not in VERSIONS:
        (swapped,) = struct.unpack(">I", struct.pack("<I", version))
        told = f"version {swapped}, big endian" if swapped in VERSIONS else f"version {version}"
        faults.refuse(
            "is of a version of GGUF that is not read",
            expected="version 2 or 3, little endian",
            found=told,
            hint="convert it with llama.cpp's gguf_convert_endian.py, or make it anew from the model's own repository",
        )
    tensors, keys = cursor.take("QQ")
    for what, number, limit in (("tensors", tensors, MAX_TENSORS), ("keys", keys, MAX_KEYS)):
        if number > limit:
            faults.refuse(
                f"says that it has more {what} than it can",
                expected=f"at most {limit:,}",
                found=f"{number:,}",
            )
    return tensors, keys


def _values(cursor: Cursor, faults: Faults, number: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(number):
        key = _name(cursor.text(MAX_KEY), faults)
        if key in values:
            faults.refuse("says one key twice", key=key)
        (kind,) = cursor.take("I")
        values[key] = _value(cursor, faults, key, kind)
    return values


def _value(cursor: Cursor, faults: Faults, key: str, kind: int) -> Any:
    if kind in SCALARS:
        return cursor.take(SCALARS[kind])[0]
    if kind == TEXT:
        return cursor.text(MAX_VALUE).decode("utf-8", errors="replace")
    if kind != ARRAY:
        faults.refuse("holds a value of an unknown type", key=key, found=f"type {kind}")
    inner, number = cursor.take("IQ")
    if inner == TEXT:
        cursor.skip_texts(number)
        return Length(number)
    if inner not in SCALARS:
        what = "an array of arrays" if inner == ARRAY else f"an array of the unknown type {inner}"
        faults.refuse("holds an array that is none of numbers or texts", key=key, found=what)
    if number <= KEPT:
        return list(cursor.take(f"{number}{SCALARS[inner]}"))
    cursor.skip(number * struct.calcsize(SCALARS[inner]))
    return Length(number)


def _alignment(values: Mapping[str, Any], faults: Faults) -> int:
    found = values.get("general.alignment", 32)
    if not isinstance(found, int) or found <= 0 or found & (found - 1) or found > 1 << 20:
        faults.refuse(
            "lays its tensors out in an impossible way",
            key="general.alignment",
            expected="a power of two",
            found=repr(found),
        )
    return found


def _tensors(cursor: Cursor, faults: Faults, number: int, alignment: int) -> tuple[Stored, ...]:
    told = [_tensor(cursor, faults) for _ in range(number)]
    start = -(-cursor.position // alignment) * alignment
    found = sorted(
        (dataclasses.replace(one, offset=start + one.offset) for one in told),
        key=lambda one: (one.offset, one.nbytes),
    )
    if len({one.name for one in found}) != number:
        names = [one.name for one in found]
        faults.refuse(
            "holds two tensors of one name", found=next(name for name in names if names.count(name) > 1)
        )
    end = start
    for one in found:
        if one.offset % alignment or one.offset < end:
            what = "over another one" if one.offset < end else f"at no multiple of {alignment} bytes"
            faults.refuse(
                f"holds a tensor that lies {what}", key=one.name, found=f"it begins at {one.offset:,}"
            )
        end = one.offset + one.nbytes
        if end > cursor.size:
            faults.refuse(
                "ends before its last tensor does",
                key=one.name,
                expected=f"{end:,} bytes",
                found=f"{cursor.size:,}",
            )
    return tuple(found)


def _tensor(cursor: Cursor, faults: Faults) -> Stored:
    """Read where one tensor lies, its offset from the first byte of all tensors."""
    name = _name(cursor.text(MAX_NAME), faults)
    (axes,) = cursor.take("I")
    if axes > MAX_AXES:
        faults.refuse(
            "holds a tensor of too many axes", key=name, expected=f"at most {MAX_AXES}", found=f"{axes:,}"
        )
    shape = tuple(reversed(cursor.take(f"{axes}Q")))
    number, offset = cursor.take("IQ")
    kind = KINDS.get(number)
    if kind is None:
        faults.refuse("holds a tensor of an unknown type", key=name, found=f"type {number}")
    if (shape[-1] if shape else 1) % kind.numbers:
        faults.refuse(
            "holds a tensor whose rows are no whole blocks",
            key=name,
            expected=f"a multiple of {kind.numbers} numbers, {kind.name}",
            found=str(list(shape)),
        )
    return Stored(
        name=name,
        kind=kind,
        shape=shape,
        offset=offset,
        nbytes=math.prod(shape) // kind.numbers * kind.nbytes,
    )


def _name(text: bytes, faults: Faults) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        faults.refuse("holds a name that is no text", found=repr(text[:40]))
