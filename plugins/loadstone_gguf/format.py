"""GGUF as a format of loadstone: one file that says what the model is, and where each tensor lies."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from loadstone.checkpoint.formats import Format
from loadstone.checkpoint.formats.writer import Writer
from loadstone.checkpoint.index import Packing, TensorIndex, TensorInfo
from loadstone.source import Snapshot
from loadstone_gguf.blocks import is_known
from loadstone_gguf.configuration import plain, values_of
from loadstone_gguf.dialects import DIALECTS, LEAVES, UNKNOWN
from loadstone_gguf.faults import Faults
from loadstone_gguf.header import Header, Stored, read_header
from loadstone_gguf.rope import FACTORS
from loadstone_gguf.writer import NOTED, VARIETIES, GgufWriter

BLOCKS = "loadstone_gguf.blocks"
MAX_FACTORS = 4096


class Gguf(Format):
    """A file of any name, which the caller says; it has no variants, and no others beside it."""

    varieties: ClassVar[tuple[str, ...]] = tuple(VARIETIES)

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return nothing: of several files in a folder each is a model."""
        return ()

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name ends as that of a GGUF file."""
        return variant is None and name.endswith(".gguf")

    def config(self, snapshot: Snapshot, entry: str) -> Mapping[str, Any]:
        """Return the configuration that the file says under llama.cpp's keys."""
        header = read_header(snapshot, entry)
        return values_of(header, _factors(snapshot, entry, header), where=f"{snapshot.location}/{entry}")

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Name the tensors as checkpoints do, and say how each lies."""
        header, faults = read_header(snapshot, entry), Faults(file=entry, where=snapshot.location)
        index = _Index(header, faults)
        tensors: dict[str, TensorInfo] = {}
        for stored in header.tensors:
            if stored.name == FACTORS:
                continue
            info = index.info(stored)
            if tensors.setdefault(info.name, info) is not info:
                faults.refuse(
                    "holds two tensors that are one in a checkpoint", key=stored.name, found=info.name
                )
        texts = {
            key.removeprefix(NOTED): value
            for key, value in header.values.items()
            if key.startswith(("general.", NOTED)) and isinstance(value, str)
        }
        notes = (f"{FACTORS} of {entry} went into the configuration, as rope_scaling",)
        return TensorIndex(
            tensors=tensors,
            files=(entry,),
            metadata=texts,
            notes=notes if any(one.name == FACTORS for one in header.tensors) else (),
        )

    def check(self, paths: Iterable[Path]) -> None:
        """Do nothing: what there is to check has been."""

    def writer_of(self, variety: str) -> Writer | None:
        """Return what writes numbers of one type: "f16", "f32" or "bf16"."""
        return GgufWriter(VARIETIES[variety]) if variety in VARIETIES else None

    def files(self, snapshot: Snapshot, entry: str) -> Sequence[str]:
        """Return the file."""
        return (entry,)


class _Index:
    """How the tensors of one file lie.

    Args:
        header: What the file says.
        faults: Refuses it.
    """

    def __init__(self, header: Header, faults: Faults) -> None:
        self.values, self.faults = header.values, faults
        self.architecture = str(header.values.get("general.architecture"))
        self.dialect = DIALECTS.get(self.architecture, UNKNOWN)

    def info(self, stored: Stored) -> TensorInfo:
        """Return one as a checkpoint has it; of a type that is not known, as the file has it."""
        name, shape, strides = self.dialect.name(stored.name), stored.shape, None
        if name is not None:
            self._check_leaf(stored)
        if _module(stored) in self.dialect.turned and len(shape) == 2:
            shape, strides = shape[::-1], (1, shape[-1])
        return TensorInfo(
            name=name or stored.name,
            dtype=stored.kind.dtype or "float32",
            shape=shape,
            file=self.faults.file,
            offset=stored.offset,
            nbytes=stored.nbytes,
            strides=strides,
            packing=self._packing(stored),
        )

    def _packing(self, stored: Stored) -> Packing | None:
        kind, heads = stored.kind, self.dialect.heads.get(_module(stored))
        less_one = self.dialect.less_one and stored.name.endswith("norm.weight")
        if kind.dtype and heads is None and not less_one:
            return None
        self._check_library(stored)
        if heads is not None:
            return self._of_heads(stored, heads)
        name = kind.dtype or kind.name
        return Packing(
            name=f"{name} and 1" if less_one else name,
            numbers=kind.numbers,
            nbytes=kind.nbytes,
            unpack=f"{BLOCKS}:unpack_less_one" if less_one else f"{BLOCKS}:unpack",
            arguments=(kind.number,),
        )

    def _of_heads(self, stored: Stored, key: str) -> Packing:
        """Return how a tensor lies whose rows are paired within each head."""
        self._check_library(stored)
        kind, prefix = stored.kind, f"{self.architecture}."
        heads = plain(self.values.get(prefix + key, self.values.get(f"{prefix}attention.head_count")))
        rows = stored.shape[0] // heads if stored.shape and type(heads) is int and heads > 0 else 0
        packed_line = len(stored.shape) < 2 and kind.numbers > 1
        if rows < 2 or rows % 2 or rows * heads != stored.shape[0] or packed_line:
            self.faults.refuse(
                "holds a tensor whose rows are not those of its heads",
                key=stored.name,
                expected=f"an even number for each of {heads!r:.40} heads, as {prefix}{key} says",
                found=f"{list(stored.shape)}, {kind.name}",
            )
        row = stored.nbytes // stored.shape[0]
        numbers = rows * (stored.shape[1] if len(stored.shape) > 1 else 1)
        return Packing(
            name=kind.dtype or kind.name,
            numbers=numbers,
            nbytes=rows * row,
            unpack=f"{BLOCKS}:unpack_halves",
            arguments=(kind.number, rows, row),
        )

    def _check_leaf(self, stored: Stored) -> None:
        """Refuse what belongs to a weight and would change it: a scale of its own, say."""
        leaf = stored.name.rpartition(".")[2]
        if leaf not in LEAVES:
            self.faults.refuse(
                "holds more of a module than its weight and bias",
                key=stored.name,
                expected=" or ".join(LEAVES),
                found=leaf,
                hint="take a file of another quantisation, or the model's own repository",
            )

    def _check_library(self, stored: Stored) -> None:
        """Refuse numbers that cannot be unpacked, before anything is read."""
        if importlib.util.find_spec("gguf") is None:
            self.faults.refuse(
                "holds numbers that are unpacked with gguf-py",
                key=stored.name,
                expected="gguf, installed",
                found="no module of that name",
                hint="pip install 'loadstone[gguf]'",
            )
        if not is_known(stored.kind.number):
            self.faults.refuse(
                "holds numbers that gguf-py does not unpack",
                key=stored.name,
                found=stored.kind.name,
                hint="update gguf-py, or take a file of another quantisation",
            )


def _module(stored: Stored) -> str:
    """Return the part of a layer that a tensor is of."""
    return stored.name.rpartition(".")[0].rpartition(".")[2]


def _factors(snapshot: Snapshot, file: str, header: Header) -> tuple[float, ...] | None:
    """Return the numbers of the tensor that stretches the rope; None where there is none."""
    stored = next((one for one in header.tensors if one.name == FACTORS), None)
    if stored is None:
        return None
    number = stored.nbytes // 4
    if stored.kind.name != "F32" or not 0 < number <= MAX_FACTORS:
        Faults(file=file, where=snapshot.location).refuse(
            "holds factors of the rope that cannot be",
            key=FACTORS,
            expected="some numbers, F32",
            found=f"{stored.kind.name} {list(stored.shape)}",
        )
    return struct.unpack(f"<{number}f", snapshot.read_range(file, stored.offset, stored.nbytes))
