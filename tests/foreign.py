"""Files as transformers 4's TensorFlow and Flax classes write them, of the oracle's tensors; and msgpack made by hand."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.checkpoint.open import open_checkpoint
from loadstone.dtypes import to_numpy
from loadstone.save.convert import convert
from loadstone.source import resolve
from tests.oracle import load

H5, MSGPACK = "tf_model.h5", "flax_model.msgpack"
ASKED = {H5: {"from_tf": True}, MSGPACK: {"from_flax": True}}
"""File -> the argument that takes it."""


@functools.cache
def table() -> dict[str, dict[str, dict[str, str]]]:
    """Return what `tests/oracle/foreign4.py` recorded: case -> file -> path -> parameter and axes."""
    found: dict[str, dict[str, dict[str, str]]] = json.loads(
        (Path(load.__file__).parent / "foreign4.json").read_text()
    )
    return found


def cases(*types: str) -> list[tuple[str, str]]:
    """Return each case and file that was recorded, of model types where they are given."""
    return [
        (case, file)
        for case, files in table().items()
        for file in files
        if not types or case.startswith(types)
    ]


def stored(folder: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a checkpoint in safetensors."""
    snapshot = resolve(folder)
    return {
        info.name: np.frombuffer(
            snapshot.read_range(info.file, info.offset, info.nbytes), to_numpy(info.dtype)
        ).reshape(info.shape)
        for info in open_checkpoint(snapshot).tensors.values()
    }


def arrays(case: str, file: str) -> dict[str, np.ndarray]:
    """Return path in the file -> tensor, of one of the oracle's cases."""
    tensors, found = stored(load.folder(case)), {}
    for path, said in table()[case][file].items():
        name, _, text = said.partition(" ")
        axes = [int(axis) for axis in text.split(",")]
        turned = tensors[name].transpose([axis for axis in axes if axis >= 0])
        found[path] = np.ascontiguousarray(turned).reshape([1] * axes.count(-1) + list(turned.shape))
    return found


def resaved(case: str, file: str, target: Path, shards: int = 1) -> Path:
    """Write one of the oracle's cases as the framework of a file would, into a folder of its own."""
    target.mkdir()
    for name in ("config.json", "generation_config.json"):
        if (source := load.folder(case) / name).exists():
            (target / name).write_bytes(source.read_bytes())
    tensors = arrays(case, file)
    write = write_h5 if file == H5 else write_msgpack
    if shards == 1:
        write(target / file, tensors)
        return target
    if file == H5:  # shards have each variable once, below no layer; transformers' index has its whole name
        tensors = {path.partition("/")[2]: array for path, array in tensors.items()}
    places = {}
    for part in range(shards):
        stem, ending = file.split(".")
        shard = f"{stem}-{part + 1:05d}-of-{shards:05d}.{ending}"
        own = list(tensors)[part::shards]
        places |= dict.fromkeys(own, shard)
        write(target / shard, {shortened(path) if file == H5 else path: tensors[path] for path in own})
    (target / f"{file}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return target


def shortened(variable: str) -> str:
    """Return what transformers calls a variable in a shard."""
    return variable if "model." in variable else variable.partition("/")[2]


def write_h5(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors below groups."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            file.create_dataset(name, data=array)


def write_msgpack(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a tree of arrays as `flax.serialization.to_bytes` does."""
    tree: dict[str, Any] = {}
    for name, array in tensors.items():
        *around, leaf = name.split("/")
        inner = tree
        for segment in around:
            inner = inner.setdefault(segment, {})
        inner[leaf] = array
    path.write_bytes(packed(tree))


def packed(value: Any) -> bytes:
    """Return a tree of maps and arrays as msgpack."""
    if isinstance(value, Mapping):
        return mapped([(text(key), packed(one)) for key, one in value.items()])
    return (
        array_of(value.shape, value.dtype.name, value.tobytes()) if hasattr(value, "shape") else number(value)
    )


def mapped(pairs: Iterable[tuple[bytes, bytes]], *, count: int | None = None) -> bytes:
    """Return a map, which says that it has `count` entries."""
    pairs = list(pairs)
    number_of = len(pairs) if count is None else count
    return b"\xdf" + number_of.to_bytes(4, "big") + b"".join(key + value for key, value in pairs)


def array_of(
    shape: Iterable[int], dtype: str, data: bytes, *, code: int = 1, length: int | None = None
) -> bytes:
    """Return an ext value of flax's for an array, or for anything else of three fields."""
    sizes = list(shape)
    fields = b"\x93" + bytes([0x90 | len(sizes)]) + b"".join(map(number, sizes)) + text(dtype)
    fields += b"\xc6" + (len(data) if length is None else length).to_bytes(4, "big") + data
    return ext(code, fields)


def ext(code: int, data: bytes, *, length: int | None = None) -> bytes:
    """Return an ext value."""
    size = len(data) if length is None else length
    return b"\xc9" + size.to_bytes(4, "big") + code.to_bytes(1, "big", signed=True) + data


def text(value: str) -> bytes:
    """Return a text."""
    data = value.encode()
    return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xda" + len(data).to_bytes(2, "big")) + data


def number(value: int) -> bytes:
    """Return a whole number."""
    return bytes([value]) if 0 <= value < 128 else b"\xcf" + value.to_bytes(8, "big")


def agree(model_class: Any, case: str, folder: Path, root: Path, **arguments: Any) -> Any:
    """Hold a model that is loaded from a framework's file against the same of safetensors: what both save is the same file.

    Returns:
        The one from the framework's file.
    """
    models = [model_class.from_pretrained(place, **arguments) for place in (folder, load.folder(case))]
    for place, model in enumerate(models):
        model.save_pretrained(root / str(place))
    one, other = (stored(root / str(place)) for place in range(2))
    assert one.keys() == other.keys()
    for name, array in other.items():
        counted = name.endswith("num_batches_tracked")  # TensorFlow and Flax count none
        assert counted or (one[name].dtype == array.dtype and one[name].tobytes() == array.tobytes()), name
    assert not models[0].load_report.names("unused")
    return models[0]


FORMATS = {"bin": "pytorch_model.bin", "h5": H5, "msgpack": MSGPACK}
"""What `format=` says -> the one file that is written."""


def saves_as_converted(model_class: Any, case: str, root: Path) -> None:
    """Hold what a model of any backend saves in each format against the same checkpoint, converted: the same file."""
    model = model_class.from_pretrained(load.folder(case))
    for format, file in FORMATS.items():
        model.save_pretrained(root / format, format=format)
        converted = convert(load.folder(case), root / f"{format}-converted", format=format).folder
        assert (root / format / file).read_bytes() == (converted / file).read_bytes(), file
        again = model_class.from_pretrained(root / format)
        assert not again.load_report.names("new") and not again.load_report.names("unused")
