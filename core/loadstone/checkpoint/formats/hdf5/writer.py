"""Writing what transformers' TensorFlow classes write: `tf_model.h5`.

h5py lays the file out and writes what describes the tensors, into memory; their bytes then stream between, straight to where
they lie: in one piece each, at multiples of 64 bytes.

Source: transformers 4.56, modeling_tf_utils.py; keras/src/legacy/saving/legacy_h5_format.py
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

from loadstone.checkpoint.formats.foreign import index_name, shard_names, without_variant
from loadstone.checkpoint.formats.hdf5.files import TEXTS, load_h5py, shortened
from loadstone.checkpoint.formats.texts import noted
from loadstone.checkpoint.formats.writer import ALIGNMENT, Block, Shard, StoredTensor, Writer
from loadstone.dtypes import DTYPES

MAX_ATTRIBUTE = 64_512
"""Bytes that an attribute may have; Keras cuts a longer one into several."""

_HELD = frozenset(name for name, dtype in DTYPES.items() if dtype.kind in ("float", "int", "bool"))
_HELD -= {name for name in _HELD if name.startswith(("bfloat", "float8", "float6", "float4"))}


class Hdf5Writer(Writer):
    """`tf_model.h5`, or shards and their index. Each variable lies below its layer, as Keras has it.

    An alias is the name of another layer and of the variable: that layer holds the variable too, which is stored once.
    """

    dialect: ClassVar[str] = "tensorflow"
    one_file_aliases: ClassVar[bool] = True

    def file_names(self, number: int, *, variant: str | None) -> list[str]:
        """Return `tf_model.h5`, or the names of shards."""
        return shard_names("tf_model", ".h5", number)

    def index_name(self, variant: str | None) -> str:
        """Return `tf_model.h5.index.json`."""
        return index_name("tf_model", ".h5")

    def problems(
        self, tensors: Sequence[StoredTensor], metadata: Mapping[str, str], *, variant: str | None
    ) -> Iterator[str]:
        """Yield the tensors of dtypes that HDF5 has no standard type for."""
        load_h5py()
        yield from without_variant(variant)
        for tensor in tensors:
            if tensor.dtype not in _HELD:
                yield f"{tensor.name}: {tensor.dtype} is no type of HDF5"

    def blocks(self, shard: Shard, metadata: Mapping[str, str]) -> Iterator[Block]:
        """Yield what describes the tensors, and between it the tensors."""
        h5py, image = load_h5py(), _Image()
        places = _laid_out(h5py, image, shard, noted(metadata))
        at = 0
        for offset, tensor in sorted(places, key=lambda place: place[0]):
            yield b"".join(image.between(at, offset))
            yield from tensor.blocks()
            at = offset + tensor.nbytes
        yield b"".join(image.between(at, image.size))


def _laid_out(h5py: ModuleType, image: _Image, shard: Shard, texts: str) -> list[tuple[int, StoredTensor]]:
    """Write into memory what describes the tensors; return where each of them is to lie."""
    how = {"alignment_threshold": ALIGNMENT, "alignment_interval": ALIGNMENT}
    with h5py.File(image, "w", libver=("earliest", "latest"), **how) as file:
        if texts:
            file.attrs[TEXTS] = texts
        if "-of-" in shard.file:
            rows = [(shortened(tensor.name), tensor) for tensor in shard.tensors]
            _attribute(file, "layer_names", [name for name, _ in rows])
            return _created(h5py, file, rows)
        return _in_layers(h5py, file, shard)


def _in_layers(h5py: ModuleType, file: Any, shard: Shard) -> list[tuple[int, StoredTensor]]:
    layers: dict[str, list[tuple[str, StoredTensor]]] = {}
    for tensor in shard.tensors:
        layers.setdefault(tensor.name.split("/")[1], []).append((tensor.name, tensor))
    _attribute(file, "layer_names", list(layers))
    file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.18.0"
    found = []
    for layer, rows in layers.items():
        found += _created(h5py, file.create_group(layer), rows)
    names = {layer: [name for name, _ in rows] for layer, rows in layers.items()}
    for alias, stored in shard.aliases.items():
        layer = alias.partition("/")[0]
        file[alias] = file[f"{stored.split('/')[1]}/{stored}"]
        names[layer].append(stored)
    for layer, own in names.items():
        _attribute(file[layer], "weight_names", own)
    return found


def _created(
    h5py: ModuleType, group: Any, rows: Sequence[tuple[str, StoredTensor]]
) -> list[tuple[int, StoredTensor]]:
    """Make place for tensors, which get it at once and are not filled."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    found = []
    for name, tensor in rows:
        space = h5py.h5s.create_simple(tensor.shape) if tensor.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        kind = h5py.h5t.py_create(_dtype(tensor.dtype), logical=True)
        made = h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=plan, lcpl=links)
        if tensor.nbytes:
            found.append((int(made.get_offset()), tensor))
    return found


def _dtype(name: str) -> Any:
    from loadstone.dtypes import to_numpy

    return to_numpy(name)


def _attribute(group: Any, name: str, texts: Sequence[str]) -> None:
    """Note names as Keras does: in one attribute, or in as many as they need."""
    import numpy as np

    encoded = [text.encode("utf-8") for text in texts]
    longest = max(map(len, encoded), default=1)
    most = max(1, MAX_ATTRIBUTE // longest)
    if len(encoded) <= most:
        group.attrs[name] = np.asarray(encoded)
        return
    for number, start in enumerate(range(0, len(encoded), most)):
        group.attrs[f"{name}{number}"] = np.asarray(encoded[start : start + most])


class _Image(io.RawIOBase):
    """A file of which what was written is kept, and nothing of what lies between."""

    def __init__(self) -> None:
        super().__init__()
        self._at, self.size = 0, 0
        self._parts: dict[int, bytes] = {}
        self._starts: list[int] = []

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        kept = bytes(data)
        self._put(self._at, kept)
        self._at += len(kept)
        self.size = max(self.size, self._at)
        return len(kept)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        number = max(0, min(len(view), self.size - self._at))
        view[:number] = b"".join(self.between(self._at, self._at + number))
        self._at += number
        return number

    def between(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes of a part; where nothing was written there are zeros."""
        at = start
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        for offset in self._starts[first:]:
            if offset >= stop:
                break
            part = self._parts[offset]
            low, high = max(at, offset), min(stop, offset + len(part))
            if low < high:
                yield bytes(low - at)
                yield part[low - offset : high - offset]
                at = high
        if at < stop:
            yield bytes(stop - at)

    def _put(self, offset: int, data: bytes) -> None:
        """Keep what was written; of older parts what it does not cover stays."""
        end, covered = offset + len(data), []
        first = max(0, bisect.bisect_right(self._starts, offset) - 1)
        for start in self._starts[first:]:
            if start >= end:
                break
            if start + len(self._parts[start]) > offset:
                covered.append(start)
        for start in covered:
            part = self._parts.pop(start)
            self._starts.remove(start)
            self._add(start, part[: max(0, offset - start)])
            self._add(end, part[max(0, end - start) :])
        self._add(offset, data)

    def _add(self, start: int, data: bytes) -> None:
        if data:
            self._parts[start] = data
            bisect.insort(self._starts, start)
