"""Writing what `flax.serialization.to_bytes` writes: a tree of arrays, those of more than 1 GiB in pieces.

Source: flax/serialization.py; https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from loadstone.checkpoint.formats.foreign import index_name, shard_names, without_variant
from loadstone.checkpoint.formats.msgpack.files import ARRAY, CHUNKED, CHUNKS, SHAPE
from loadstone.checkpoint.formats.texts import noted
from loadstone.checkpoint.formats.writer import BLOCK, Block, Shard, StoredTensor, Writer, packed
from loadstone.dtypes import DTYPES

MAX_CHUNK = 1 << 30
"""Bytes that flax writes as one array."""

Tree = dict[str, "Tree | StoredTensor"]


class MsgpackWriter(Writer):
    """`flax_model.msgpack`, or shards and their index. There is no place for texts, and no variant."""

    dialect: ClassVar[str] = "flax"

    def file_names(self, number: int, *, variant: str | None) -> list[str]:
        """Return `flax_model.msgpack`, or the names of shards."""
        return shard_names("flax_model", ".msgpack", number)

    def index_name(self, variant: str | None) -> str:
        """Return `flax_model.msgpack.index.json`."""
        return index_name("flax_model", ".msgpack")

    def problems(
        self, tensors: Sequence[StoredTensor], metadata: Mapping[str, str], *, variant: str | None
    ) -> Iterator[str]:
        """Yield the dtypes that it has no names for, and texts, which Flax would take for parameters."""
        yield from without_variant(variant)
        yield from packed(tensors)
        if noted(metadata):
            yield f"the texts beside the tensors: {noted(metadata)[:200]}; metadata={{}} leaves them out"

    def blocks(self, shard: Shard, metadata: Mapping[str, str]) -> Iterator[Block]:
        """Yield the tree, a tensor at a time."""
        tree: Tree = {}
        for tensor in shard.tensors:
            *around, last = tensor.name.split("/")
            inner = tree
            for segment in around:
                found = inner.setdefault(segment, {})
                assert isinstance(found, dict), tensor.name
                inner = found
            inner[last] = tensor
        yield from _map(tree)


def _map(tree: Tree) -> Iterator[Block]:
    yield _sized(len(tree), ((0x80, 16), (0xDE, 1 << 16), (0xDF, 1 << 32)))
    for key, value in tree.items():
        yield _text(key)
        yield from _map(value) if isinstance(value, dict) else _tensor(value)


def _tensor(tensor: StoredTensor) -> Iterator[Block]:
    data = tensor.data()
    if tensor.nbytes <= MAX_CHUNK:
        yield from _array(tensor.shape, tensor.dtype, data)
        return
    item = DTYPES[tensor.dtype].itemsize
    step = MAX_CHUNK // item * item
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    sizes = b"".join(_text(str(axis)) + _int(size) for axis, size in enumerate(tensor.shape))
    yield b"\x83" + _text(CHUNKED) + b"\xc3" + _text(SHAPE) + bytes([0x80 | len(tensor.shape)]) + sizes
    yield _text(CHUNKS) + _sized(len(pieces), ((0x80, 16), (0xDE, 1 << 16)))
    for number, piece in enumerate(pieces):
        yield _text(str(number))
        yield from _array((len(piece) // item,), tensor.dtype, piece)


def _array(shape: Sequence[int], dtype: str, data: memoryview) -> Iterator[Block]:
    fields = b"\x93" + bytes([0x90 | len(shape)]) + b"".join(map(_int, shape)) + _text(dtype)
    fields += _sized(len(data), ((0xC4, 1 << 8), (0xC5, 1 << 16), (0xC6, 1 << 32)), fixed=False)
    yield _ext(len(fields) + len(data)) + fields
    for start in range(0, len(data), BLOCK):
        yield data[start : start + BLOCK]


def _ext(length: int) -> bytes:
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(length)
    if fixed is not None:
        return bytes([fixed, ARRAY])
    return _sized(length, ((0xC7, 1 << 8), (0xC8, 1 << 16), (0xC9, 1 << 32)), fixed=False) + bytes([ARRAY])


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    if len(data) < 32:
        return bytes([0xA0 | len(data)]) + data
    return _sized(len(data), ((0xD9, 1 << 8), (0xDA, 1 << 16), (0xDB, 1 << 32)), fixed=False) + data


def _int(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    return _sized(value, ((0xCC, 1 << 8), (0xCD, 1 << 16), (0xCE, 1 << 32), (0xCF, 1 << 64)), fixed=False)


def _sized(value: int, forms: Sequence[tuple[int, int]], *, fixed: bool = True) -> bytes:
    """Return the shortest form of a length or a number: the first holds it in its own byte where it is `fixed`."""
    for place, (first, limit) in enumerate(forms):
        if value < limit:
            if fixed and not place:
                return bytes([first | value])
            return bytes([first]) + value.to_bytes((limit.bit_length() - 1) // 8, "big")
    raise AssertionError(value)
