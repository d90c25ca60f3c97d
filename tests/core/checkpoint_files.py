"""Small checkpoints for tests: written by us, written by hand, and read back whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.settled import settle
from loadstone.dtypes import DTYPES, to_numpy
from loadstone.read.tensor import HostTensor
from loadstone.save.write import save_checkpoint
from loadstone.source import resolve

Arrays = Mapping[str, np.ndarray]


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Return tensors of several dtypes and sizes, among them odd, empty and 0-d ones; 3,171 bytes in all."""
    rng = np.random.default_rng(seed)
    return {
        "model.embed.weight": rng.standard_normal((16, 32)).astype(np.float32),
        "model.layers.0.weight": rng.standard_normal((8, 32)).astype(ml_dtypes.bfloat16),
        "model.layers.1.weight": rng.standard_normal((8, 32)).astype(ml_dtypes.float8_e4m3fn),
        "model.layers.10.bias": rng.standard_normal(7).astype(np.float16),
        "model.norm.weight": rng.standard_normal(32).astype(np.float32),
        "model.odd": rng.integers(0, 255, 5).astype(np.uint8),
        "model.scale": np.array(rng.standard_normal(), np.float64),
        "model.nothing": np.zeros((0, 4), np.int64),
        "model.mask": rng.integers(0, 2, 200).astype(np.bool_),
    }


def stored(name: str, array: np.ndarray) -> StoredTensor:
    """Return what a backend hands over to save an array."""
    dtype = array.dtype.name

    def read() -> HostTensor:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return HostTensor(name=name, dtype=dtype, shape=array.shape, data=data)

    return StoredTensor(name=name, dtype=dtype, shape=array.shape, read=read)


def save(
    folder: Path, tensors: Arrays, *, config: str = '{"model_type": "llama"}', **options: Any
) -> list[Path]:
    """Save arrays as a checkpoint."""
    return save_checkpoint(
        folder, [stored(name, array) for name, array in tensors.items()], config_json=config, **options
    )


@dataclasses.dataclass(frozen=True)
class Loaded:
    """All that a folder's checkpoint holds, in a form that compares."""

    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]
    config: str
    generation_config: str | None

    @classmethod
    def of(cls, tensors: Arrays, config: str, generation_config: str | None = None) -> Loaded:
        """Return what a folder should hold after `tensors` were saved."""
        held = {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in tensors.items()}
        return cls(held, config, generation_config)


def load(folder: Path, *, variant: str | None = None) -> Loaded:
    """Read a whole checkpoint, as a load does: settled first, config and weights through one snapshot."""
    snapshot = settle(resolve(folder))
    index = open_checkpoint(snapshot, variant=variant)
    tensors = {
        info.name: (info.dtype, info.shape, snapshot.read_range(info.file, info.offset, info.nbytes))
        for info in index.tensors.values()
    }
    extra = "generation_config.json"
    return Loaded(
        tensors, snapshot.read_text("config.json"), snapshot.read_text(extra) if snapshot.has(extra) else None
    )


def raw(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a safetensors file made by hand: a header as an object, a text or bytes, and any data."""
    if not isinstance(header, str | bytes):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    """Return the header's entry of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write_foreign(
    folder: Path, tensors: Arrays, *, shards: int, config: str, generation_config: str | None
) -> None:
    """Write a checkpoint as another tool does: without our padding, order and ids."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    groups = [names[part::shards] for part in range(shards)]
    places = {}
    for number, group in enumerate(groups, 1):
        file = "model.safetensors" if shards == 1 else f"model-{number:05d}-of-{shards:05d}.safetensors"
        places |= dict.fromkeys(group, file)
        (folder / file).write_bytes(foreign_bytes({name: tensors[name] for name in group}))
    if shards > 1:
        index = {"metadata": {"total_size": 1}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(config)
    if generation_config is not None:
        (folder / "generation_config.json").write_text(generation_config)


def foreign_bytes(tensors: Arrays) -> bytes:
    """Return one safetensors file, laid out in the order given."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in tensors.items():
        part = array.tobytes()
        code = DTYPES[array.dtype.name].code
        header[name] = entry(list(array.shape), len(data), len(data) + len(part), code)
        data += part
    return raw(header, data)


def names_in(folder: Path) -> set[str]:
    """Return the names of everything below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def array_of(dtype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    """Return bytes as an array."""
    return np.frombuffer(data, np.uint8).view(to_numpy(dtype)).reshape(shape)


SHARED = Path(__file__).resolve().parents[3] / "shared" / "checkpoints"
"""Real checkpoints beside the project, where they are there."""

REAL_ONES = [
    "bert-tiny-ticket-classifier",
    "bert-tiny-ticket-classifier-all-formats",
    "gpt2-tiny-llm-cicd",
    "llama-tinystories-656k",
    "llama-tinystories-656k-sharded",
    "t5-chronos-dummy-all-formats",
]
"""Those with weights in safetensors."""


def shared(name: str) -> Path:
    """Return the folder of a real checkpoint; skip the test where they are not beside the project."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not beside the project")
    return SHARED / name
