"""Carrying out a recipe on arrays in host memory: each number moves once, straight to its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loadstone.checkpoint.recipe import Part, Value
from loadstone.dtypes import nbytes, to_numpy
from loadstone.read.memory import aligned_empty
from loadstone.read.tensor import HostTensor

Array = np.ndarray[Any, Any]


def region(destination: Array, part: Part) -> Array:
    """Return the place of a block in the result, as a view whose axes are those of the block's source.

    Args:
        destination: The result.
        part: The block.
    """
    axes = zip(part.at, part.extent, part.axes, strict=True)
    # The ellipsis keeps a view where all axes are new and one number is left.
    place: Any = (*(at if axis is None else slice(at, at + size) for at, size, axis in axes), ...)
    kept = [axis for axis in part.axes if axis is not None]
    gone = [axis for axis in range(len(part.window)) if axis not in kept]
    return np.expand_dims(destination[place].transpose(np.argsort(kept)), gone)


def block(source: Array, part: Part) -> Array:
    """Return a block of a source, as a view of it."""
    window: Any = (*(slice(*bounds) for bounds in part.window), ...)
    found: Array = source[window]
    return found


def assemble(destination: Array, found: Sequence[Part], source: Callable[[int], Array]) -> None:
    """Fill a result from its sources, block by block.

    Args:
        destination: The result; every number of it is in one of the parts.
        found: The parts.
        source: Number of a source -> the source.
    """
    for part in found:
        region(destination, part)[...] = block(source(part.source), part)


def put_together(name: str, dtype: str, value: Value, source: Callable[[int], HostTensor]) -> HostTensor:
    """Return a tensor that is made of others in host memory.

    Args:
        name: Its name.
        dtype: Canonical dtype, of its sources too.
        value: What it is made of.
        source: Number of a source -> the source.
    """
    shape, found = value
    if len(found) == 1 and found[0].in_order:
        view = block(source(found[0].source).numpy(), found[0])
        if view.flags.c_contiguous:
            return HostTensor(name=name, dtype=dtype, shape=shape, data=view.reshape(-1).view(np.uint8))
    data = aligned_empty(nbytes(dtype, shape))
    assemble(data.view(to_numpy(dtype)).reshape(shape), found, lambda number: source(number).numpy())
    return HostTensor(name=name, dtype=dtype, shape=shape, data=data)
