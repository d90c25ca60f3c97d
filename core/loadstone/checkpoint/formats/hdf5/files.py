"""One HDF5 file of weights: where each of its tensors lies. h5py reads what describes them, and no tensor."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import math
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.names import IMPOSTORS
from loadstone.checkpoint.formats.safetensors import Header
from loadstone.checkpoint.formats.texts import MAX_TEXTS, texts_of
from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import DTYPES
from loadstone.errors import CheckpointError, LoadstoneError, shown

if TYPE_CHECKING:
    from loadstone.source import Snapshot

MAX_DEPTH, MAX_OBJECTS, MAX_NAME = 64, 10_000, 1024
"""Groups in one another; groups and tensors of a file; characters of a name with those of the groups around it."""

BLOCK, MAX_BLOCKS = 64 * 1024, 64
"""Bytes that are asked for at once, and how many times as many are kept."""

TEXTS = "loadstone.metadata"
"""The attribute in which our own saves hold texts."""

VARIABLES, LAYER = "vars", "name"
"""The group in which Keras 3 saves what is a layer's own, and its attribute that holds the layer's name."""

DTYPE = "dtype"
"""The attribute in which Keras 3 says what numbers are that HDF5 has no type for."""

_MAGIC = b"\x89HDF\r\n\x1a\n"
_WRITER = "an HDF5 file of plain tensors"
_REWRITE = "copy its tensors into a new file with h5py, without links, chunks or compression"
# What h5py raises for a file that is damaged, or that HDF5 cannot read.
_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError, MemoryError)


def read_file(snapshot: Snapshot, file: str) -> Header:
    """Say where each tensor of a file lies, each under its whole path, and the texts that our own saves note.

    Raises:
        CheckpointError: If the file is damaged, links to others, or its tensors do not lie in one piece; if h5py is missing.
        SourceError: If it cannot be read.
    """
    infos, texts, _ = read_layers(snapshot, file)
    return infos, texts


def read_layers(snapshot: Snapshot, file: str) -> tuple[list[TensorInfo], dict[str, str], dict[str, str]]:
    """Return what `read_file` does, and the path of each layer that Keras 3 saved -> the layer's own name."""
    place, size = Place(file=file, where=snapshot.location), snapshot.file(file).size
    start = snapshot.read_range(file, 0, min(size, 64))
    for magic, name, hint in IMPOSTORS:
        if start.startswith(magic):
            place.fail(f"is {name} in place of weights", expected=_WRITER, found=name, hint=hint)
    if not start.startswith(_MAGIC):
        place.fail("is no HDF5 file" if start else "is empty", expected=_WRITER, found=shown(start[:16]))
    h5py = load_h5py(place)
    stream = _File(snapshot, file)
    try:
        with h5py.File(stream, "r", libver=("earliest", "latest")) as opened:
            texts = _texts(h5py, opened, place)
            walk = _Walk(h5py, size, place)
            return list(walk.tensors(opened, (), 1)), texts, walk.layers
    except LoadstoneError:
        raise
    except _DAMAGED as error:
        if stream.error is not None:
            raise stream.error from None
        place.fail("cannot be read as HDF5", found=f"{type(error).__name__}: {error!s:.200}", cause=error)


def shortened(name: str) -> str:
    """Return what transformers calls a variable in a shard: without the model that all are in, mostly."""
    _, _, rest = name.partition("/")
    return name if not rest or "model." in name else rest


def load_h5py(place: Place | None = None) -> ModuleType:
    """Return the library.

    Raises:
        CheckpointError: If it is missing.
    """
    if importlib.util.find_spec("h5py") is None:
        raise CheckpointError(
            "HDF5 is read and written with h5py",
            where=None if place is None else f"{place.file} in {place.where}",
            expected="h5py, installed",
            found="no module of that name",
            hint="pip install 'loadstone[h5]'",
        )
    return importlib.import_module("h5py")


def _texts(h5py: ModuleType, opened: Any, place: Place) -> dict[str, str]:
    if TEXTS not in opened.attrs:
        return {}
    noted = opened.attrs.get_id(TEXTS)
    plain = noted.shape == () and h5py.check_string_dtype(noted.dtype) is not None
    if not plain or noted.get_storage_size() > MAX_TEXTS:
        place.fail("notes something else than texts", key=TEXTS, expected="one text")
    return texts_of(str(opened.attrs[TEXTS]), place)


class _File(io.RawIOBase):
    """A file of a snapshot, as h5py reads it: in blocks, of which the last few are kept; no other byte is fetched.

    Nothing is raised while HDF5 reads, which does not survive that: it finds fewer bytes, and `error` says why.
    """

    def __init__(self, snapshot: Snapshot, file: str) -> None:
        super().__init__()
        self._size, self._at = snapshot.file(file).size, 0
        self._block = functools.lru_cache(MAX_BLOCKS)(functools.partial(self._fetch, snapshot, file))
        self.error: LoadstoneError | None = None

    def _fetch(self, snapshot: Snapshot, file: str, number: int) -> bytes:
        start = number * BLOCK
        return snapshot.read_range(file, start, min(BLOCK, self._size - start))

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and 0 <= self._at < self._size:
            number, start = divmod(self._at, BLOCK)
            try:
                found = self._block(number)[start : start + len(view) - done]
            except LoadstoneError as error:
                self.error = error
                break
            view[done : done + len(found)] = found
            done, self._at = done + len(found), self._at + len(found)
        return done

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _Walk:
    """The walk through the groups of one file."""

    def __init__(self, h5py: ModuleType, size: int, place: Place) -> None:
        self._h5py, self._size, self._place = h5py, size, place
        self.layers: dict[str, str] = {}
        self._seen: set[int] = set()
        self._objects = 0

    def tensors(self, group: Any, path: tuple[str, ...], depth: int) -> Iterator[TensorInfo]:
        """Yield the tensors of a group and of those in it."""
        address = self._h5py.h5o.get_info(group.id).addr
        if depth > MAX_DEPTH or address in self._seen:
            self._place.fail(
                "holds groups that stand in one another without end",
                key="/".join(path),
                expected=f"a tree of at most {MAX_DEPTH} levels",
                hint=_REWRITE,
            )
        self._seen.add(address)
        if path[-1:] == (VARIABLES,) and LAYER in group.attrs:
            self.layers["/".join(path[:-1])] = self._layer(group, "/".join(path))
        for name in group:
            child = (*path, name)
            self._check(group, name, "/".join(child))
            found = group[name]
            if isinstance(found, self._h5py.Group):
                yield from self.tensors(found, child, depth + 1)
            elif isinstance(found, self._h5py.Dataset):
                yield self._info("/".join(child), found)

    def _layer(self, group: Any, key: str) -> str:
        """Return the name of a layer."""
        name = self._text(group, LAYER)
        if not 0 < len(name) <= MAX_NAME:
            self._place.fail("names a layer by something else than a short text", key=key)
        return name

    def _text(self, found: Any, attribute: str) -> str:
        """Return the text that an attribute holds; "" where it is something else, or not there."""
        if attribute not in found.attrs:
            return ""
        noted = found.attrs.get_id(attribute)
        plain = noted.shape == () and self._h5py.check_string_dtype(noted.dtype) is not None
        return str(found.attrs[attribute]) if plain and noted.get_storage_size() <= MAX_NAME else ""

    def _check(self, group: Any, name: str, key: str) -> None:
        """Refuse what leads out of the tree, or is more than weights need."""
        self._objects += 1
        if self._objects > MAX_OBJECTS or len(key) > MAX_NAME:
            self._place.fail(
                "holds more than weights need",
                expected=f"at most {MAX_OBJECTS:,} groups and tensors, with names of {MAX_NAME:,} characters",
                hint="save it again",
            )
        link = group.get(name, getclass=True, getlink=True)
        if link is not self._h5py.HardLink:
            kind = "to another file" if link is self._h5py.ExternalLink else "to another name"
            self._place.fail(
                f"holds a link {kind} in the place of a tensor", key=key, expected=_WRITER, hint=_REWRITE
            )

    def _info(self, name: str, dataset: Any) -> TensorInfo:
        shape, dtype = self._numbers(name, dataset)
        nbytes = math.prod(shape) * DTYPES[dtype].itemsize
        offset = self._offset(name, dataset, nbytes)
        if offset + nbytes > self._size:
            self._place.fail(
                "ends before what it holds does",
                key=name,
                expected=f"bytes {offset:,} to {offset + nbytes:,}",
                found=f"{self._size:,} bytes",
            )
        return TensorInfo(
            name=name, dtype=dtype, shape=shape, file=self._place.file, offset=offset, nbytes=nbytes
        )

    def _numbers(self, name: str, dataset: Any) -> tuple[tuple[int, ...], str]:
        """Return the shape and the dtype of a tensor, whose bytes are those that the dtype has elsewhere."""
        stored, shape, types = dataset.id.get_type(), dataset.shape, self._h5py.h5t
        dtype = dataset.dtype
        if shape is not None and dtype.str == "|V2" and self._text(dataset, DTYPE) == "bfloat16":
            return tuple(map(int, shape)), "bfloat16"  # as Keras 3 saves it
        # A float of other bits (bfloat16 among them) comes as the next larger dtype, which its bytes are not.
        plain = dtype.name in DTYPES and dtype.isnative and types.py_create(dtype, logical=True).equal(stored)
        if not plain or shape is None:
            self._place.fail(
                "holds a tensor of a dtype that there is no name for here",
                key=name,
                expected="little-endian numbers of a usual size",
                found=shown(str(dtype)),
                hint="cast it before it is saved",
            )
        return tuple(map(int, shape)), str(dtype.name)

    def _offset(self, name: str, dataset: Any, nbytes: int) -> int:
        """Return where the bytes of a tensor begin, which lie in this file in one piece."""
        plist, layouts = dataset.id.get_create_plist(), self._h5py.h5d
        layout = plist.get_layout()
        if layout == layouts.VIRTUAL or plist.get_external_count():
            self._place.fail(
                "holds a tensor whose numbers are in another file",
                key=name,
                expected=_WRITER,
                found="a virtual dataset" if layout == layouts.VIRTUAL else "external storage",
                hint=_REWRITE,
            )
        if layout != layouts.CONTIGUOUS or plist.get_nfilters():
            self._place.fail(
                "holds a tensor in chunks, packed, or inside its header",
                key=name,
                expected="its numbers in one piece, as Keras and transformers write them",
                hint=_REWRITE,
            )
        offset = dataset.id.get_offset()
        if offset is None and nbytes:
            self._place.fail("holds a tensor that was never written", key=name, hint="save it again")
        return int(offset or 0)
