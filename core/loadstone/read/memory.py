"""Host memory that tensors are read into."""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from loadstone.errors import out_of_memory
from loadstone.source.local_file import unreadable

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNMENT = 64
"""Bytes: what we allocate starts at a multiple of it, which every framework can alias."""
OWN_PAGES = 1 << 20
"""Bytes from which memory has pages of its own, straight from the system."""
# Linux's, and not in Python's mmap module: a private mapping reserves no swap, so that a file larger than memory can be
# mapped. Other systems reserve none in any case.
MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0
_FAILED = ctypes.c_void_p(-1).value
POPULATE_READ, POPULATE_WRITE = 22, 23
"""Linux's `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`, since 5.14; Python has no names for them."""


def aligned_empty(size: int) -> Bytes:
    """Return uninitialised memory of `size` bytes whose address is a multiple of `ALIGNMENT`, or an OutOfMemoryError.

    Large memory is of ordinary pages. numpy would ask for huge ones from 4 MiB on, and where what is free lies in small
    pieces the system takes several times as long to make those as a read of the bytes takes.
    """
    try:
        if size >= OWN_PAGES:
            return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
        slab = np.empty(size + ALIGNMENT, np.uint8)
    except (MemoryError, OSError, OverflowError) as error:
        raise out_of_memory("for a tensor", asked=size) from error
    start = -slab.ctypes.data % ALIGNMENT
    return slab[start : start + size]


def map_file(descriptor: int, size: int, *, name: str) -> Bytes:
    """Return a private, copy-on-write mapping of a file's first bytes, which ends with the last array that aliases it.

    Python's own mappings each hold a descriptor, of which there may be fewer than shards.

    Args:
        descriptor: Of the open file; it may be closed afterwards.
        size: Bytes to map, at least one; the file must be as long.
        name: The file's, for an error.

    Raises:
        OutOfMemoryError: If there is no room for it among the process's addresses.
        SourceError: If the file's system maps no files.
    """
    system = _system()
    address = system.mmap(
        None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | MAP_NORESERVE, descriptor, 0
    )
    if address == _FAILED:
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        raise (
            out_of_memory(f"to map {name}", asked=size)
            if error.errno == errno.ENOMEM
            else unreadable(name, error)
        ) from error
    memory = (ctypes.c_uint8 * size).from_address(address)
    # Not at the end of the process, where arrays may outlive it.
    weakref.finalize(memory, system.munmap, address, size).atexit = False
    return np.frombuffer(memoryview(memory), np.uint8)


@functools.cache
def _system() -> ctypes.CDLL:
    system = ctypes.CDLL(None, use_errno=True)
    number, pointer = ctypes.c_int, ctypes.c_void_p
    system.mmap.argtypes = pointer, ctypes.c_size_t, number, number, number, ctypes.c_int64
    system.mmap.restype = pointer
    system.munmap.argtypes = pointer, ctypes.c_size_t
    return system


def populate(memory: Bytes) -> None:
    """Have the system supply a part's pages at once, which takes a fifth less time than one by one in a read.

    A hint: it changes no byte, and where the system does not know it or the part has no pages of its own, nothing is done.
    """
    address, madvise = memory.ctypes.data, _madvise()
    if madvise is not None and len(memory) >= mmap.PAGESIZE and not address % mmap.PAGESIZE:
        madvise(address, len(memory), POPULATE_WRITE)


def fault_in(memory: Bytes) -> None:
    """Have the system bring the pages of a mapping of a file, which nobody then waits for when they are used. A hint too."""
    address, madvise = memory.ctypes.data, _madvise()
    if madvise is not None and len(memory):
        start = address - address % mmap.PAGESIZE
        madvise(start, address + len(memory) - start, POPULATE_READ)


def available() -> int:
    """Return the bytes of memory that the system can give without taking any from another process; 0 where it does not tell.

    Source: MemAvailable of https://man7.org/linux/man-pages/man5/proc_meminfo.5.html
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Return the system's call, which lets other threads go on; `mmap.madvise` makes them wait."""
    if sys.platform != "linux":
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return call
