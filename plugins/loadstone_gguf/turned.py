"""A checkpoint's tensor as a GGUF file has it: its rows, its axes, its norms, in its dtype; made when its turn has come."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.dtypes import to_numpy

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A tensor in host memory: canonical dtype, sizes of its axes, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray[Any, np.dtype[np.uint8]]


def turned(tensor: StoredTensor, name: str, dtype: str, *, heads: int, over: bool, more: int) -> StoredTensor:
    """Return a tensor as a file has it.

    Args:
        tensor: As a checkpoint has it.
        name: Its name in the file.
        dtype: Canonical dtype in the file.
        heads: How many heads its rows are of, where they lie in pairs, one of each half of a head; 0: they lie as they are.
        over: Whether its two axes change places.
        more: What is added to each number.
    """

    def read() -> Held:
        held = tensor.read()
        array: Array = held.data.view(to_numpy(held.dtype)).reshape(held.shape)
        if heads:
            array = _paired(array, heads)
        if more:
            array = array.astype(np.float32) + np.float32(more)
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.ascontiguousarray(array.T if over else array, dtype=to_numpy(dtype))
        return Held(dtype, made.shape, made.reshape(-1).view(np.uint8))

    return StoredTensor(name=name, dtype=dtype, shape=tensor.shape[::-1] if over else tensor.shape, read=read)


def _paired(array: Array, heads: int) -> Array:
    """Return rows in pairs, one of each half of a head; they lie one half after the other."""
    halves = array.reshape(heads, 2, -1, *array.shape[1:])  # H heads, 2, D/2, columns
    return halves.swapaxes(1, 2).reshape(array.shape)
