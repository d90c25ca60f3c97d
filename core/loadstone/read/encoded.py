"""Tensors whose numbers a library finds: which of them are asked for together, and how they come into place."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.recipe import Part, Window
from loadstone.dtypes import DTYPES, to_numpy
from loadstone.read.steps import Array, region
from loadstone.read.unpack import carried_out

_LARGE = threading.Lock()


def windows_of(info: TensorInfo, window: Window, limit: int) -> Iterator[tuple[Window, int]]:
    """Yield the parts of a window that are read together, and the bytes of each.

    They end where chunks do, so that none is decoded twice: one chunk's length at least, else no more than a limit.

    Args:
        info: The tensor.
        window: The window; it is a part itself where it holds nothing, or is of no axis.
        limit: Bytes.
    """
    assert info.encoding is not None
    size = math.prod(stop - start for start, stop in window) * DTYPES[info.dtype].itemsize
    if not size or not window:
        yield window, size
        return
    axis, together = info.encoding.axis, info.encoding.together
    start, stop = window[axis]
    each = size // (stop - start)
    step = max(1, limit // (each * together)) * together
    while start < stop:
        end = min(stop, start // together * together + step)
        yield (*window[:axis], (start, end), *window[axis + 1 :]), (end - start) * each
        start = end


def fill(path: Path, info: TensorInfo, part: Part, window: Window, destination: Array, limit: int) -> None:
    """Read a window of a tensor into its place.

    Args:
        path: Of the tensor's file.
        info: The tensor.
        part: The block that the window is a part of.
        window: What to read.
        destination: What the block goes into.
        limit: Bytes above which only one window is read at a time: the library holds as many again.

    Raises:
        CheckpointError: If the library cannot read it.
        PluginError: If the format's function fails.
    """
    into = _within(region(destination, part), part.window, window)
    if not into.size:
        return
    if into.size * DTYPES[info.dtype].itemsize <= limit:
        _read(path, info, window, into)
        return
    with _LARGE:
        _read(path, info, window, into)


def _within(block: Array, whole: Window, window: Window) -> Array:
    """Return the place of a window in that of its block."""
    place: Any = (
        *(
            slice(start - first, stop - first)
            for (start, stop), (first, _) in zip(window, whole, strict=True)
        ),
        ...,
    )
    found: Array = block[place]
    return found


def _read(path: Path, info: TensorInfo, window: Sequence[tuple[int, int]], into: Array) -> None:
    encoding, dtype = info.encoding, to_numpy(info.dtype)
    assert encoding is not None
    numbers = into if into.dtype == dtype else np.empty(into.shape, dtype)
    carried_out(encoding.read, f"read {info.name}", path, window, numbers, *encoding.arguments)
    if numbers is not into:
        with np.errstate(over="ignore", invalid="ignore"):
            into[...] = numbers
