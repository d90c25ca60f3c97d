"""How tensors lie in the files that we write: pure, and the same whichever backend the tensors come from.

Each file's data starts at a multiple of 64 bytes, tensors whose size is a multiple of 64 come first, in name order,
and the odd ones follow. So all but the odd ones lie at multiples of 64, where every framework can alias a mapping.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from loadstone.checkpoint.formats.names import file_names
from loadstone.dtypes import DTYPES, nbytes
from loadstone.errors import ArgumentError

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor

ALIGNMENT = 64
"""Bytes to which frameworks want tensors aligned before they alias them."""

MAX_SHARD_TENSORS = 100_000
"""Tensors that we put into one file; its header then stays well below what the parser accepts."""

_UNITS = {"": 1, "B": 1} | {f"{unit}B": 1000**power for power, unit in enumerate("KMGT", 1)}
_UNITS |= {f"{unit}IB": 1024**power for power, unit in enumerate("KMGT", 1)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor to be saved.

    Attributes:
        name: The name under which it is stored.
        dtype: Canonical dtype name.
        shape: Sizes of its axes.
        read: Brings its bytes into host memory; called once, when its turn has come.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], HostTensor]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return nbytes(self.dtype, self.shape)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file to be written: its name, and its tensors in the order in which they will lie."""

    file: str
    tensors: tuple[StoredTensor, ...]

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """Return the bytes that come before the tensors'; their number depends on the length of texts alone."""
        entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        at = 0
        for tensor in self.tensors:
            end = at + tensor.nbytes
            code = DTYPES[tensor.dtype].code
            entries[tensor.name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text


def lay_out(
    tensors: Iterable[StoredTensor], *, max_shard_size: int | str, variant: str | None
) -> list[Shard]:
    """Divide tensors among files, in name order, each filled until the next tensor would be too much.

    Args:
        tensors: What to save, in any order.
        max_shard_size: Bytes of tensors that a file may hold, as a number or a text such as "5GB"; a tensor
            that is larger has a file for itself.
        variant: Part of the file names, e.g. "fp16".

    Returns:
        One shard, or as many as are needed, each with the name that its file will have.

    Raises:
        ArgumentError: If a tensor's name is not one, or is there twice, or the size cannot be understood.
    """
    limit = parse_size(max_shard_size)
    groups: list[list[StoredTensor]] = [[]]
    filled = 0
    for tensor in _in_name_order(tensors):
        too_much = filled + tensor.nbytes > limit or len(groups[-1]) == MAX_SHARD_TENSORS
        if groups[-1] and too_much:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.nbytes
    names = file_names(len(groups), variant=variant)
    return [
        Shard(file=name, tensors=_aligned_first(group)) for name, group in zip(names, groups, strict=True)
    ]


def _in_name_order(tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    names = [tensor.name for tensor in ordered]
    wrong = [name for name, following in itertools.pairwise(names) if name == following]
    wrong += [name for name in names if name == "__metadata__"]
    if wrong:
        raise ArgumentError(
            f"a tensor cannot be saved as {wrong[0]!r}",
            expected="names that occur once; `__metadata__` is reserved",
        )
    return ordered


def _aligned_first(tensors: Sequence[StoredTensor]) -> tuple[StoredTensor, ...]:
    # The odd ones go by falling element size, so that each lies at a multiple of its own element's.
    even = [tensor for tensor in tensors if tensor.nbytes % ALIGNMENT == 0]
    odd = [tensor for tensor in tensors if tensor.nbytes % ALIGNMENT]
    return *even, *sorted(odd, key=lambda tensor: -DTYPES[tensor.dtype].bits)


def parse_size(size: int | str) -> int:
    """Return a number of bytes given as a number or a text.

    Raises:
        ArgumentError: If it is neither, or not positive.

    Example:
        >>> parse_size("5GB"), parse_size("1GiB"), parse_size(300)
        (5000000000, 1073741824, 300)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    unit = _UNITS.get(match[2].upper()) if match else None
    number = int(float(match[1]) * unit) if match and unit else 0
    if number <= 0:
        raise ArgumentError(
            f"max_shard_size={size!r} is not a size",
            expected='a positive number of bytes, or a text such as "5GB", "500MB" or "1GiB"',
            hint="leave it out for 5GB",
        )
    return number
