"""One file that `flax.serialization` wrote: where each of its arrays lies.

Source: flax/serialization.py, which packs a nested state dict, its arrays as ext values of three fields each.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.msgpack.walk import Value, Walk
from loadstone.checkpoint.formats.names import IMPOSTORS
from loadstone.checkpoint.formats.safetensors import Header
from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import DTYPES
from loadstone.errors import shown

if TYPE_CHECKING:
    from loadstone.source import Snapshot

ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Types of flax's ext values; the second is one complex number of Python's, and no tensor."""

CHUNKED, SHAPE, CHUNKS = "__msgpack_chunked_array__", "shape", "chunks"
"""Keys of a map that stands for an array of more than 1 GiB, cut into pieces."""

MAX_DEPTH, MAX_AXES, MAX_NAME, MAX_NAMES = 32, 32, 1024, 32 * 1024 * 1024
"""Maps in one another; axes of an array; characters of a name, and of all names together."""

_WRITER = "what flax.serialization writes"


def read_file(snapshot: Snapshot, file: str) -> Header:
    """Say where each array of a file lies; no array is read.

    Raises:
        CheckpointError: If the file is damaged, or holds something else than a tree of arrays.
        SourceError: If it cannot be read.
    """
    place, known = Place(file=file, where=snapshot.location), snapshot.file(file)
    read = functools.partial(snapshot.read_range, file)
    start = read(0, min(known.size, 64))
    for magic, name, hint in IMPOSTORS:
        if start.startswith(magic):
            place.fail(f"is {name} in place of weights", expected=_WRITER, found=name, hint=hint)
    if not start:
        place.fail("is empty", expected=_WRITER, hint="fetch or copy the file again")
    tree = _Tree(Walk(read, known.size, place), place)
    tree.read()
    return list(tree.found.values()), {}


class _Tree:
    """The walk through one file, and the arrays that it has found."""

    def __init__(self, walk: Walk, place: Place) -> None:
        self._walk, self._place = walk, place
        self.found: dict[str, TensorInfo] = {}
        self._characters = 0

    def read(self) -> None:
        """Walk through the whole file."""
        root = self._walk.value()
        if root.kind != "map":
            self._place.fail(
                "is none of the files that flax writes", expected="a map", found=f"a {root.kind}"
            )
        self._map(root, (), 1)
        if self._walk.left:
            self._place.fail("goes on behind its end", found=f"{self._walk.left:,} bytes more")

    def _map(self, value: Value, path: tuple[str, ...], depth: int) -> None:
        if depth > MAX_DEPTH:
            self._place.fail(
                "holds maps too deep in one another", expected=f"at most {MAX_DEPTH}", hint="save it again"
            )
        for number in range(value.count):
            key = self._text("a key")
            if key == CHUNKED and path:
                self._chunked("/".join(path), value.count if not number else 0)
                return
            self._any((*path, key), depth)

    def _any(self, path: tuple[str, ...], depth: int) -> None:
        name = "/".join(path)
        self._characters += len(name)
        if len(name) > MAX_NAME or self._characters > MAX_NAMES:
            self._place.fail(
                "holds names that are too long",
                expected=f"at most {MAX_NAME:,} characters each, and {MAX_NAMES:,} together",
                hint="save it again",
            )
        value = self._walk.value()
        if value.kind == "map":
            self._map(value, path, depth + 1)
        elif value.kind == "ext":
            self._ext(name, value)
        elif value.kind in ("str", "bin"):
            self._walk.skip(value.count)
        elif value.kind == "array":
            self._place.fail("holds a list, which is no tensor", key=name, expected=_WRITER)

    def _chunked(self, name: str, fields: int) -> None:
        """Note an array of more than 1 GiB, which flax cuts into flat pieces.

        Source: `_chunk` in flax/serialization.py.
        """
        expected = f"{CHUNKED}, {SHAPE} and {CHUNKS}"
        if fields != 3 or self._walk.value().kind != "bool" or self._text("a key") != SHAPE:
            self._fail_array(name, expected, "something else")
        shape = tuple(self._size(name) for _ in self._numbered(name))
        if self._text("a key") != CHUNKS:
            self._fail_array(name, expected, "something else")
        parts = [self._array(name, self._walk.value()) for _ in self._numbered(name)]
        dtypes = {part.dtype for part in parts}
        nbytes = math.prod(shape) * max((DTYPES[dtype].itemsize for dtype in dtypes), default=0)
        if len(dtypes) != 1 or sum(part.nbytes for part in parts) != nbytes or len(shape) > MAX_AXES:
            self._fail_array(name, f"pieces of {list(shape)} together", f"{len(parts):,} others")
        chunks = tuple((part.offset, part.nbytes) for part in parts)
        self._note(dataclasses.replace(parts[0], shape=shape, nbytes=nbytes, chunks=chunks))

    def _numbered(self, name: str) -> Iterator[int]:
        """Yield the keys of a map that counts from 0; what each stands for is read before the next."""
        value = self._walk.value()
        if value.kind != "map":
            self._fail_array(name, "a map", f"a {value.kind}")
        for number in range(value.count):
            if self._text("a key") != str(number):
                self._fail_array(name, f"key {number}", "another")
            yield number

    def _ext(self, name: str, value: Value) -> None:
        """Note an array, or pass over a complex number."""
        if value.code == COMPLEX:
            self._walk.skip(value.count)
        else:
            self._note(self._array(name, value))

    def _note(self, info: TensorInfo) -> None:
        if info.name in self.found:
            self._place.fail("holds two arrays of one name", key=info.name)
        self.found[info.name] = info

    def _array(self, name: str, value: Value) -> TensorInfo:
        """Return where an array lies.

        Source: `_ndarray_to_bytes` in flax/serialization.py, which packs the shape, the dtype's name and the bytes.
        """
        walk, end = self._walk, self._walk.offset + value.count
        if value.kind != "ext":
            self._fail_array(name, "an array", f"a {value.kind}")
        if value.code not in (ARRAY, SCALAR):
            self._place.fail(
                "holds a value of a type that flax has not",
                key=name,
                expected=f"ext type {ARRAY}, {COMPLEX} or {SCALAR}",
                found=f"ext type {value.code}",
                hint="nothing of it was run. Ask its author for safetensors",
            )
        fields, axes = walk.value(), walk.value()
        if (fields.kind, fields.count, axes.kind) != ("array", 3, "array") or axes.count > MAX_AXES:
            self._fail_array(name, "shape, dtype and bytes", "something else")
        shape = tuple(self._size(name) for _ in range(axes.count))
        dtype = self._text("a dtype")
        data = walk.value()
        if dtype not in DTYPES or DTYPES[dtype].bits % 8:
            self._fail_array(name, "a dtype that there is a name for", shown(dtype))
        nbytes = math.prod(shape) * DTYPES[dtype].itemsize
        if data.kind != "bin" or data.count != nbytes or walk.offset + nbytes != end:
            self._fail_array(name, f"{nbytes:,} bytes of {dtype} {list(shape)}", f"{data.count:,}")
        found = TensorInfo(
            name=name, dtype=dtype, shape=shape, file=self._place.file, offset=walk.offset, nbytes=nbytes
        )
        walk.skip(nbytes)
        return found

    def _size(self, name: str) -> int:
        value = self._walk.value()
        if value.kind != "int" or not 0 <= value.count < 1 << 48:
            self._fail_array(name, "sizes of axes", f"{value.kind} {value.count:,}")
        return value.count

    def _fail_array(self, name: str, expected: str, found: str) -> None:
        self._place.fail("holds an array that contradicts itself", key=name, expected=expected, found=found)

    def _text(self, what: str) -> str:
        value = self._walk.value()
        if value.kind != "str" or value.count > MAX_NAME:
            self._place.fail(
                f"has something else in the place of {what}",
                expected=f"a text of at most {MAX_NAME:,} bytes",
                found=f"{value.kind} {value.count:,} at byte {self._walk.offset:,}",
            )
        try:
            return self._walk.take(value.count).decode()
        except UnicodeDecodeError as error:
            self._place.fail(f"has {what} that is no UTF-8", cause=error)
