"""Packed numbers: which of their blocks are read together, and how a format's function makes numbers of them.

A block is read whole, so that windows are counted in blocks here. What is unpacked is float32, made a few thousand numbers at a
time, while they are in the processor's cache, and goes from there into the dtype of its destination.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loadstone.checkpoint.index import Packing, TensorInfo
from loadstone.dtypes import DTYPES, to_numpy
from loadstone.errors import CheckpointError, LoadstoneError, PluginError
from loadstone.plugins import load_attribute
from loadstone.read.memory import Bytes

AT_ONCE = 1 << 15
"""Numbers that are unpacked together; measured, with 2 to 4 MB of cache a core twice as many are slower."""

Window = Sequence[tuple[int, int]]
Array = np.ndarray[Any, Any]


def in_blocks(info: TensorInfo, window: Window) -> tuple[Sequence[int], Window, int]:
    """Return the sizes of a tensor, a window of it and the bits of one element, each element a block where it is packed.

    Raises:
        CheckpointError: If the window begins or ends inside a block.
    """
    packing = info.packing
    if packing is None:
        return info.shape, window, DTYPES[info.dtype].bits
    axis, block = _axis(info), packing.numbers
    start, stop = window[axis]
    if info.shape[axis] % block or start % block or stop % block:
        raise CheckpointError(
            f"a part of {info.name} is asked for that begins or ends inside a packed block",
            where=f"{info.file}, key {info.name}",
            expected=f"a multiple of {block} numbers of a row, {packing.name}",
            found=f"{start} to {stop} of {info.shape[axis]}",
            hint="load the tensor whole, or save the model and load that",
        )
    shape = (*info.shape[:axis], info.shape[axis] // block, *info.shape[axis + 1 :])
    window = (*window[:axis], (start // block, stop // block), *window[axis + 1 :])
    return shape, window, packing.nbytes * 8


def in_numbers(info: TensorInfo, within: Sequence[slice]) -> Sequence[slice]:
    """Return slices of a window that are counted in blocks as slices of its numbers."""
    if info.packing is None:
        return within
    axis, block = _axis(info), info.packing.numbers
    numbers = slice(within[axis].start * block, within[axis].stop * block)
    return (*within[:axis], numbers, *within[axis + 1 :])


def _axis(info: TensorInfo) -> int:
    """Return the axis of a row, along which blocks lie: the last that has more than one index."""
    return max((axis for axis, size in enumerate(info.shape) if size > 1), default=len(info.shape) - 1)


def count_of(info: TensorInfo, size: int) -> int:
    """Return how many numbers lie in so many bytes of a tensor."""
    if info.packing is None:
        return size // DTYPES[info.dtype].itemsize
    return size // info.packing.nbytes * info.packing.numbers


def piece_of(info: TensorInfo, limit: int) -> int:
    """Return the bytes that are read together, of whole blocks: one at least, else no more than a limit."""
    if info.packing is None:
        return limit
    return max(1, limit // info.packing.nbytes) * info.packing.nbytes


def limit_of(info: TensorInfo, limit: int) -> int:
    """Return the bytes of a tensor of which the numbers, unpacked, take no more than a limit."""
    if info.packing is None:
        return limit
    return max(1, limit // (4 * info.packing.numbers)) * info.packing.nbytes


def numbers_of(source: Bytes, info: TensorInfo) -> Array:
    """Return bytes of a tensor, in one piece, as numbers."""
    if info.packing is None:
        return source.view(to_numpy(info.dtype))
    numbers = np.empty(count_of(info, len(source)), np.float32)
    unpack(source, info.packing, numbers.view(np.uint8), "float32")
    return numbers


def unpack(source: Bytes, packing: Packing, destination: Bytes, dtype: str) -> None:
    """Make numbers of whole blocks.

    Args:
        source: The blocks, in one piece.
        packing: How they are packed.
        destination: The bytes of as many numbers.
        dtype: Canonical float dtype to give them.

    Raises:
        PluginError: If the format's function fails.
    """
    numbers = destination.view(to_numpy(dtype))
    blocks = max(1, AT_ONCE // packing.numbers)
    scratch = None if dtype == "float32" else np.empty(blocks * packing.numbers, np.float32)
    # Infinities and what is no number are the file's own: as for casts, no warning is due.
    with np.errstate(all="ignore"):
        for start in range(0, len(source) // packing.nbytes, blocks):
            part = source[start * packing.nbytes : (start + blocks) * packing.nbytes]
            into = numbers[start * packing.numbers : (start + blocks) * packing.numbers]
            made = into if scratch is None else scratch[: len(into)]
            carried_out(packing.unpack, f"unpack {packing.name}", part, made, *packing.arguments)
            if scratch is not None:
                into[...] = made


def carried_out(path: str, what: str, *arguments: object) -> None:
    """Call a format's function.

    Args:
        path: "module:function".
        what: What it does, for the message.
        *arguments: What it is called with.

    Raises:
        PluginError: If it cannot be imported, or fails with an error that is not ours.
    """
    function = _function(path)
    try:
        function(*arguments)
    except (LoadstoneError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"{path} fails to {what}",
            found=f"{type(error).__name__}: {error}",
            hint="report it to the author of the plugin",
        ) from error


@functools.cache
def _function(path: str) -> Callable[..., None]:
    try:
        found: Callable[..., None] = load_attribute(path)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"{path} cannot be imported, with which packed numbers are read",
            found=f"{type(error).__name__}: {error}",
            hint="install the format's plugin in the environment that reads the files",
        ) from error
    return found
