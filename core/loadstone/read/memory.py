"""Host memory that tensors are read into."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNMENT = 64
"""Bytes: what we allocate starts at a multiple of it, which every framework can alias."""
OWN_PAGES = 1 << 20
"""Bytes from which memory has pages of its own, straight from the system."""
POPULATE_WRITE = 23
"""Linux's `MADV_POPULATE_WRITE`, since 5.14; Python has no name for it."""


def aligned_empty(size: int) -> Bytes:
    """Return uninitialised memory of `size` bytes whose address is a multiple of `ALIGNMENT`.

    Large memory is of ordinary pages. numpy would ask for huge ones from 4 MiB on, and where what is free lies in small
    pieces the system takes several times as long to make those as a read of the bytes takes.
    """
    if size >= OWN_PAGES:
        return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    slab = np.empty(size + ALIGNMENT, np.uint8)
    start = -slab.ctypes.data % ALIGNMENT
    return slab[start : start + size]


def populate(memory: Bytes) -> None:
    """Have the system supply a part's pages at once, which takes a fifth less time than one by one in a read.

    A hint: it changes no byte, and where the system does not know it or the part has no pages of its own, nothing is done.
    """
    address, madvise = memory.ctypes.data, _madvise()
    if madvise is not None and len(memory) >= mmap.PAGESIZE and not address % mmap.PAGESIZE:
        madvise(address, len(memory), POPULATE_WRITE)


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Return the system's call, which lets other threads go on; `mmap.madvise` makes them wait."""
    if sys.platform != "linux":
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return call
