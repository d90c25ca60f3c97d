"""One `.npz` file: a zip archive of stored `.npy` entries, each a header and raw numbers.

Nothing is unpickled: an array of Python objects is refused, as is a compressed entry, whose numbers lie nowhere.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import functools
import math
import re

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.names import IMPOSTORS
from loadstone.checkpoint.formats.pickle.archive import Archive, Entry
from loadstone.checkpoint.formats.pickle.stream import Read
from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import DTYPES
from loadstone.errors import shown
from loadstone.source import Snapshot

MAX_HEADER = 10_000
"""Bytes that the header of an array may have, as in numpy."""

MAX_NAME = 1_000
"""Characters that the name of an array may have."""

FIRST_READ = 256
"""Bytes read of an array first; a header has 128 where its shape is short."""

_WRITER = "numpy.savez"
_AGAIN = "save it again with numpy.savez, best as safetensors"
_HEADER = re.compile(
    r"\{'descr': '([^']{1,16})', 'fortran_order': (True|False), 'shape': \(([0-9L, ]{0,1000})\),? ?\} *\n?"
)
_DTYPES = {
    "b1": "bool",
    "c8": "complex64",
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{
        f"{kind}{size}": f"{word}{8 * size}"
        for kind, word in (("i", "int"), ("u", "uint"))
        for size in (1, 2, 4, 8)
    },
}


def read_file(snapshot: Snapshot, file: str) -> list[TensorInfo]:
    """Say where each array of a file lies, in the order in which they lie; no array is read.

    Raises:
        CheckpointError: If the file is damaged, or holds anything but plain numbers as they are.
        SourceError: If it cannot be read.
    """
    place, size = Place(file=file, where=snapshot.location), snapshot.file(file).size
    read = functools.partial(snapshot.read_range, file)
    start = read(0, min(size, 64))
    if not start.startswith(b"PK\x03\x04"):
        _refuse(start, place)
    archive = Archive(read, size, place, writer=_WRITER, again=_AGAIN)
    infos = [_array(archive, entry, read, place) for entry in archive.entries.values()]
    return sorted(infos, key=lambda info: (info.offset, info.nbytes))


def _refuse(start: bytes, place: Place) -> None:
    for magic, name, hint in IMPOSTORS:
        if start.startswith(magic):
            place.fail(
                f"is {name} in place of weights", expected=f"what {_WRITER} writes", found=name, hint=hint
            )
    place.fail(
        f"is none of the files that {_WRITER} writes", expected="a zip archive", found=shown(start[:16])
    )


def _array(archive: Archive, entry: Entry, read: Read, place: Place) -> TensorInfo:
    name = entry.name.removesuffix(".npy")
    if name == entry.name or not name or len(name) > MAX_NAME:
        place.fail(
            "holds something that is no array", key=entry.name[:200], expected="entries NAME.npy", hint=_AGAIN
        )
    offset = archive.offset(entry)
    start, text = _header(offset, entry.size, name, read, place)
    match = _HEADER.fullmatch(text)
    if match is None:
        place.fail(
            "holds an array of something else than numbers, or a header that is none",
            key=name,
            expected="{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }",
            found=shown(text[:80]),
            hint=_AGAIN,
        )
    dtype, shape = _dtype(match[1], name, place), _shape(match[3], name, place)
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if start + nbytes != entry.size:
        place.fail(
            "holds an array of another size than its header says",
            key=name,
            expected=f"{start + nbytes:,} bytes",
            found=f"{entry.size:,} bytes",
        )
    # The first axis runs fastest; one that has no numbers, or one axis, lies row by row too.
    turned = match[2] == "True" and nbytes > 0 and sum(size > 1 for size in shape) > 1
    return TensorInfo(
        name=name,
        dtype=dtype,
        shape=shape,
        file=place.file,
        offset=offset + start,
        nbytes=nbytes,
        strides=tuple(math.prod(shape[:axis]) for axis in range(len(shape))) if turned else None,
    )


def _header(offset: int, size: int, name: str, read: Read, place: Place) -> tuple[int, str]:
    """Return how many bytes of an entry come before the numbers, and the text that describes these."""
    data = read(offset, min(size, FIRST_READ))
    if len(data) < 12 or data[:6] != b"\x93NUMPY" or data[6] not in (1, 2, 3) or data[7]:
        place.fail(
            "holds an entry that is no array",
            key=name,
            expected="numpy's format, version 1 to 3",
            hint=_AGAIN,
        )
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if start > min(size, MAX_HEADER):
        place.fail("holds an array with an impossible header", key=name, found=f"{start:,} bytes")
    if start > len(data):
        data = read(offset, start)
    return start, data[8 + width : start].decode("latin-1")


def _dtype(text: str, name: str, place: Place) -> str:
    order, kind = text[:1], text[1:]
    if kind == "O":
        place.fail(
            "holds an array of Python objects, which only a pickle can",
            key=name,
            expected="numbers",
            hint="nothing of it was run. Ask its author for numbers alone",
        )
    if order == ">":
        place.fail("was saved with the most significant byte first", key=name, found=text, hint=_AGAIN)
    if order not in "<|=" or kind not in _DTYPES:
        place.fail(
            "holds an array of a dtype that there is no name for here",
            key=name,
            expected=", ".join(_DTYPES),
            found=shown(text),
            hint="numpy forgets bfloat16 and float8 (V2, V1): save these as safetensors"
            if kind.startswith("V")
            else "cast it before it is saved",
        )
    return _DTYPES[kind]


def _shape(text: str, name: str, place: Place) -> tuple[int, ...]:
    sizes = [part.strip().removesuffix("L") for part in text.split(",")]
    if sizes and not sizes[-1]:
        sizes.pop()
    if len(sizes) > 64 or not all(size.isdigit() and len(size) < 19 for size in sizes):
        place.fail("holds an array with an impossible shape", key=name, found=shown(text[:80]))
    return tuple(map(int, sizes))
