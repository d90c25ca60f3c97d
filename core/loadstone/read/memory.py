"""Host memory that tensors are read into."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNMENT = 64
"""Bytes: what we allocate starts at a multiple of it, which every framework can alias."""
OWN_PAGES = 1 << 20
"""Bytes from which memory has pages of its own, straight from the system."""


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
