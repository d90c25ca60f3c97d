"""The description of a distributed checkpoint: a pickle of torch's records, of which nothing is run.

Source: `torch/distributed/checkpoint/metadata.py` and `filesystem.py` say what is in them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.known import KNOWN
from loadstone.checkpoint.formats.pickle.machine import MAX_BYTES, Machine
from loadstone.checkpoint.formats.pickle.state import joined
from loadstone.checkpoint.formats.pickle.stream import Stream
from loadstone.checkpoint.formats.pickle.values import Known, Other, Record, Table, told
from loadstone.errors import SourceError, shown
from loadstone.source import Snapshot, safe_name

MAX_PIECES = 10_000
"""Pieces that a tensor may have; each process writes one."""

_TORCH = "torch.distributed.checkpoint"
_RECORDS = {
    f"{_TORCH}.metadata.{name}": name
    for name in (
        "Metadata",
        "TensorStorageMetadata",
        "BytesStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "MetadataIndex",
        "StorageMeta",
    )
} | {f"{_TORCH}.filesystem._StorageInfo": "_StorageInfo"}


def _known() -> dict[str, Known]:
    found = {name: Known(name, functools.partial(_record, cls)) for name, cls in _RECORDS.items()}
    plain = {f"{_TORCH}.metadata._MEM_FORMAT_ENCODING": "an order of axes"}
    plain |= {
        f"{module}.{name}": "a path"
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath")
    }
    found |= {name: Known(name, functools.partial(_other, what)) for name, what in plain.items()}
    return {**KNOWN, **found}


def _record(cls: str, arguments: tuple[object, ...], place: Place) -> Record:
    return Record(cls)


def _other(what: str, arguments: tuple[object, ...], place: Place) -> Other:
    return Other(what)


DESCRIBED = _known()
"""Module and name -> what it stands for, in a description."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One piece of a tensor as the description has it; most tensors are of one piece.

    Attributes:
        name: The tensor's name.
        dtype: Its canonical dtype.
        shape: Sizes of the piece's axes.
        file: The file in which it was written.
        offset: Where what was written of it begins.
        length: Bytes of that.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    length: int


def read_metadata(snapshot: Snapshot, file: str) -> list[Item]:
    """Return the pieces of the tensors that a description names, in order; what else it names (numbers, texts) is left out.

    Raises:
        CheckpointError: If it is damaged, asks for more than weights need, or has a tensor in pieces that are no rows.
        SourceError: If it cannot be read.
    """
    place, size = Place(file=file, where=snapshot.location), snapshot.file(file).size
    if size > MAX_BYTES:
        place.fail("describes more than weights can have", expected=f"{MAX_BYTES:,} bytes", found=f"{size:,}")
    read = functools.partial(snapshot.read_range, file)
    root = Machine(Stream(read, 0, size, place), place, DESCRIBED).run()
    described = _fields(root, "Metadata", place)
    places = dict(_storage(described.get("storage_data"), place))
    return [
        _item(name, piece, fields, places, place)
        for name, fields in _tensors(described.get("state_dict_metadata"), place)
        for piece in _pieces(name, fields, place)
    ]


def _fields(value: object, cls: str, place: Place) -> dict[str, object]:
    """Return the attributes of a record."""
    if not isinstance(value, Record) or value.cls != cls or not isinstance(value.state, Table):
        place.fail(
            "is no description of a distributed checkpoint",
            expected=f"a {cls} of {_TORCH}",
            found=told(value),
            hint="save it again with torch.distributed.checkpoint.save",
        )
    return {key: held for key, held in value.state.pairs if isinstance(key, str)}


def _tensors(value: object, place: Place) -> Iterator[tuple[str, dict[str, object]]]:
    if not isinstance(value, Table) or not value.pairs:
        place.fail("describes no tensor", found=told(value))
    seen: set[str] = set()
    for key, held in value.pairs:
        name = joined("", key, place)
        if name in seen:
            place.fail("names two tensors the same", key=name, expected="each name once", found="twice")
        seen.add(name)
        if not (isinstance(held, Record) and held.cls == "BytesStorageMetadata"):
            yield name, _fields(held, "TensorStorageMetadata", place)


def _storage(value: object, place: Place) -> Iterator[tuple[tuple[str, tuple[int, ...]], dict[str, object]]]:
    """Yield (name of a tensor, its first index along each axis) and where that piece was written."""
    if not isinstance(value, Table):
        place.fail("does not say where its tensors lie", found=told(value))
    for key, held in value.pairs:
        index = _fields(key, "MetadataIndex", place)
        name, first = index.get("fqn"), index.get("offset")
        if isinstance(name, str) and first is not None:
            yield (name, _sizes(first, name, place)), _fields(held, "_StorageInfo", place)


Piece = tuple[tuple[int, ...], tuple[int, ...]]
"""For each axis of a tensor, the first index of a piece and its size."""


def _pieces(name: str, fields: dict[str, object], place: Place) -> list[Piece]:
    """Return the pieces of a tensor, the first rows first; they have all of its rows, each once and whole."""
    shape, chunks = _sizes(fields.get("size"), name, place), fields.get("chunks")
    if not isinstance(chunks, list) or not 0 < len(chunks) <= MAX_PIECES:
        place.fail("has a tensor in no pieces, or in too many", key=name, found=told(chunks))
    found = sorted(_piece(chunk, name, place) for chunk in chunks)
    if len(found) > 1:  # some processes may have had no rows
        found = [piece for piece in found if all(piece[1])] or found[:1]
    rows = 0
    for first, sizes in found:
        if first != (rows, *(0 for _ in shape[1:]))[: len(shape)] or sizes[1:] != shape[1:]:
            place.fail(
                "has a tensor in pieces that are not all of its rows, each once and whole",
                key=name,
                expected=f"rows {rows:,} and on of {shown(list(shape))}",
                found=f"{shown(list(sizes))} from {shown(list(first))} on",
                hint="write it with torch.distributed.checkpoint.format_utils.dcp_to_torch_save, and load that",
            )
        rows += sizes[0] if sizes else 0
    if shape[:1] != (rows,) and (shape or len(found) > 1):
        place.fail("has a tensor of which a part is nowhere", key=name, expected=shown(list(shape)))
    return found


def _piece(chunk: object, name: str, place: Place) -> Piece:
    fields = _fields(chunk, "ChunkStorageMetadata", place)
    first, sizes = (_sizes(fields.get(key), name, place) for key in ("offsets", "sizes"))
    if len(first) != len(sizes):
        place.fail("describes a tensor with impossible sizes", key=name)
    return first, sizes


def _item(
    name: str,
    piece: Piece,
    fields: dict[str, object],
    places: dict[tuple[str, tuple[int, ...]], dict[str, object]],
    place: Place,
) -> Item:
    first, shape = piece
    stored = places.get((name, first))
    if stored is None:
        place.fail(
            "does not say where a tensor lies",
            key=name,
            found=f"nothing of what begins at {shown(list(first))}",
        )
    file, offset, length = (stored.get(key) for key in ("relative_path", "offset", "length"))
    if stored.get("transform_descriptors"):
        place.fail(
            "has a tensor that was compressed, or changed otherwise, as it was written",
            key=name,
            hint="save it again without stream transforms",
        )
    if not (type(offset) is int and type(length) is int and 0 <= offset <= offset + length < 2**62):
        place.fail("places a tensor nowhere", key=name, found=f"{told(offset)}, {told(length)}")
    return Item(
        name=name,
        dtype=_dtype(fields, name, place),
        shape=shape,
        file=_file(file, name, place),
        offset=offset,
        length=length,
    )


def _file(value: object, name: str, place: Place) -> str:
    try:
        safe = safe_name(value, where=place.file)  # type: ignore[arg-type]
    except SourceError as error:
        place.fail(f"places a tensor in a file whose name is refused: {error.what}", key=name)
    if not safe.endswith(".distcp"):
        place.fail(
            "places a tensor in another kind of file", key=name, expected="*.distcp", found=shown(safe)
        )
    return safe


def _dtype(fields: dict[str, object], name: str, place: Place) -> str:
    properties = fields.get("properties")
    state = properties.state if isinstance(properties, Record) else None
    dtype = state[0] if isinstance(state, tuple) and state else None
    if not isinstance(dtype, Known) or not dtype.dtype:
        place.fail(
            "holds a tensor of a dtype that there is no name for here",
            key=name,
            found=told(dtype),
            hint="cast it before it is saved",
        )
    return dtype.dtype


def _sizes(value: object, name: str, place: Place) -> tuple[int, ...]:
    if not (isinstance(value, tuple) and len(value) <= 64 and all(type(size) is int for size in value)):
        place.fail("describes a tensor with impossible sizes", key=name, found=told(value))
    return tuple(size for size in value if isinstance(size, int))
