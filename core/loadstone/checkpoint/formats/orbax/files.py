"""The arrays of an Orbax checkpoint: which there are is plain JSON, what they are and hold tensorstore reads.

Their chunks are compressed, and most lie in a database of their own (OCDBT): no number has an offset in a file. So the index
has an `Encoding` for each, and the engine asks `read_window` for the numbers. Neither Orbax nor JAX is needed.

Source: https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpoint_format.html
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.index import Encoding, TensorInfo
from loadstone.config.json_text import parse_json
from loadstone.dtypes import DTYPES
from loadstone.errors import CheckpointError, SourceError, plain, shown
from loadstone.source.names import safe_name

if TYPE_CHECKING:
    from loadstone.source import Snapshot

MAX_VALUES, MAX_NAME = 4_000_000, 1_000
"""Values that a description may have; an array takes about twenty. Characters of an array's name."""

MANIFEST = "manifest.ocdbt"
"""The file that is there where all arrays lie in one database."""

_ARRAYS = ("jax.Array", "np.ndarray", "scalar")
_READ = "loadstone.checkpoint.formats.orbax.files:read_window"
_AGAIN = "save it again with orbax.checkpoint.StandardCheckpointer"
# What tensorstore raises for what is not there, is damaged, or is written in a way that it does not know.
_DAMAGED = (ValueError, OSError, LookupError, NotImplementedError, OverflowError, RuntimeError, TypeError)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """How all arrays of a checkpoint are stored.

    Attributes:
        folder: Where they lie.
        driver: tensorstore's name for the version of zarr.
        ocdbt: Whether they lie in one database.
        whole: Whether each chunk was written; else one that is not there holds zeros.
    """

    folder: Path
    driver: str
    ocdbt: bool
    whole: bool

    def spec(self, name: str) -> dict[str, Any]:
        """Say to tensorstore where an array is."""
        base = {"driver": "file", "path": f"{self.folder}/"}
        if self.ocdbt:
            held: dict[str, Any] = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        else:
            held = {"driver": "file", "path": f"{self.folder / name}/"}
        return {"driver": self.driver, "kvstore": held, "fill_missing_data_reads": not self.whole}


def read_arrays(snapshot: Snapshot, file: str) -> list[TensorInfo]:
    """Say what arrays a checkpoint has; of the arrays themselves nothing is read.

    Raises:
        CheckpointError: If the description is none, an array is not there or is of no dtype that has a name here, the files are
            not of this machine, or tensorstore is missing.
        SourceError: If the description cannot be read.
    """
    place = Place(file=file, where=snapshot.location)
    described = _described(snapshot, file, place)
    stored = _Stored(
        folder=_folder(snapshot, file, place),
        driver="zarr3" if described.get("use_zarr3") else "zarr",
        ocdbt=snapshot.has(file.replace("_METADATA", MANIFEST)),
        whole=described.get("store_array_data_equal_to_fill_value") is True,
    )
    tensorstore = load_tensorstore(place)
    names = list(_names(described, place))
    if not names:
        place.fail("describes no array", expected="arrays by their names", hint=_AGAIN)
    under_way = [tensorstore.open(stored.spec(name), read=True, open=True) for name in names]
    return [_array(name, future, stored, place) for name, future in zip(names, under_way, strict=True)]


def _described(snapshot: Snapshot, file: str, place: Place) -> dict[str, Any]:
    try:
        found = parse_json(snapshot.read_text(file), most=MAX_VALUES)
    except ValueError as error:
        place.fail("is no JSON", found=plain(str(error)), cause=error)
    if not isinstance(found, dict) or not isinstance(found.get("tree_metadata"), dict):
        place.fail("does not describe arrays", expected="a tree_metadata, as Orbax writes it", hint=_AGAIN)
    return found


def _folder(snapshot: Snapshot, file: str, place: Place) -> Path:
    """Return the folder in which the arrays lie."""
    beside = file.removesuffix("_METADATA")
    away = [one.name for one in snapshot.files.values() if one.name.startswith(beside) and one.path is None]
    if snapshot.reads_at_once or snapshot.root is None or away:
        place.fail(
            "describes arrays that are read from a folder of this machine alone",
            expected="all files of the checkpoint in a folder",
            found=", ".join(away[:3]) or "files far away",
            hint="fetch the whole folder first (huggingface_hub.snapshot_download of a repository), and load that",
        )
    return (snapshot.root / file).absolute().parent


def _names(described: dict[str, Any], place: Place) -> Iterator[str]:
    """Yield the name of each array: the keys that lead to it, with dots."""
    seen: set[str] = set()
    for key, entry in described["tree_metadata"].items():
        keys, value = _entry(entry)
        if keys is None or value is None:
            place.fail("describes an array in a way that is not Orbax's", key=key[:200], hint=_AGAIN)
        if value not in _ARRAYS:  # an empty branch, a text
            continue
        name = ".".join(keys)
        if name in seen or not _is_safe(name):
            place.fail(
                "names two arrays the same" if name in seen else "has an array of an impossible name",
                key=name[:200],
                expected="names of parameters",
            )
        seen.add(name)
        yield name


def _entry(entry: object) -> tuple[list[str] | None, object]:
    """Return the keys that lead to a value, and what kind of value it is; None for what cannot be told."""
    if not isinstance(entry, dict):
        return None, None
    keys, value = entry.get("key_metadata"), entry.get("value_metadata")
    if not isinstance(keys, list) or not all(isinstance(key, dict) and "key" in key for key in keys):
        return None, None
    return [str(key["key"]) for key in keys], value.get("value_type") if isinstance(value, dict) else None


def _is_safe(name: str) -> bool:
    try:
        return len(name) <= MAX_NAME and safe_name(name, where="") == name
    except SourceError:
        return False


def _array(name: str, future: Any, stored: _Stored, place: Place) -> TensorInfo:
    try:
        store = future.result()
        dtype, shape = store.dtype.name, tuple(map(int, store.shape))
        chunk = tuple(max(1, int(size)) for size in store.chunk_layout.read_chunk.shape or ())
    except _DAMAGED as error:
        place.fail(_UNREADABLE, key=name, found=_told(error), cause=error)
    if dtype not in DTYPES or DTYPES[dtype].bits % 8:
        place.fail("holds an array of a dtype that is not read", key=name, found=shown(dtype), hint=_AGAIN)
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if math.prod(chunk) > 2 ** len(chunk) * max(1, math.prod(shape)):
        place.fail("holds an array in chunks that are larger than it", key=name, found=str(chunk))
    return TensorInfo(
        name=name,
        dtype=dtype,
        shape=shape,
        file=place.file,
        offset=0,
        nbytes=nbytes,
        encoding=_encoding(shape, chunk, (name, stored.driver, stored.ocdbt, stored.whole)),
    )


def _encoding(shape: tuple[int, ...], chunk: tuple[int, ...], arguments: tuple[int | str, ...]) -> Encoding:
    """Return how an array is read: in windows along the axis that has the most chunks."""
    if not chunk:
        return Encoding(read=_READ, arguments=arguments)
    axis = max(range(len(chunk)), key=lambda one: shape[one] / chunk[one])
    return Encoding(read=_READ, axis=axis, together=chunk[axis], arguments=arguments)


_UNREADABLE = "describes an array that tensorstore cannot read"


def read_window(
    path: Path,
    window: Sequence[tuple[int, int]],
    into: Any,
    name: str,
    driver: str,
    ocdbt: bool,
    whole: bool,
) -> None:
    """Read a part of an array; the engine calls it.

    Args:
        path: Of the description.
        window: For each axis, the first index and the one after the last.
        into: An array of the part's shape and the stored dtype.
        name: The array.
        driver: As in `_Stored`, like what follows.
        ocdbt: Whether all arrays lie in one database.
        whole: Whether each chunk was written.

    Raises:
        CheckpointError: If it is not there, or damaged.
    """
    place = Place(file=path.name, where=path.parent)
    tensorstore = load_tensorstore(place)
    stored = _Stored(folder=path.absolute().parent, driver=driver, ocdbt=ocdbt, whole=whole)
    try:
        store = tensorstore.open(stored.spec(name), read=True, open=True).result()
        part = store[tuple(slice(*bounds) for bounds in window)] if window else store
        tensorstore.array(into, copy=False).write(part).result()
    except _DAMAGED as error:
        place.fail(_UNREADABLE, key=name, found=_told(error), cause=error)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {plain(str(error))[:300]}"


def load_tensorstore(place: Place) -> ModuleType:
    """Return the library.

    Raises:
        CheckpointError: If it is missing.
    """
    if importlib.util.find_spec("tensorstore") is None:
        raise CheckpointError(
            "Orbax checkpoints are read with tensorstore",
            where=f"{place.file} in {place.where}",
            expected="tensorstore, installed",
            found="no module of that name",
            hint="pip install 'loadstone[orbax]'",
        )
    return importlib.import_module("tensorstore")
