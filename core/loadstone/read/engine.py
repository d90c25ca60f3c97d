"""The engine: map what can be aliased, read the rest in file order, in parallel, within a fixed buffer.

A tensor is mapped where its dtype stays, its address suits the backend and its file lies on a local disk: then no
byte of it is read. Everything else is read with `preadv` straight into the memory that the framework will alias;
casts go through one staging buffer a thread. At most `WINDOW` pieces are on their way at once.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np

from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import DTYPES, nbytes
from loadstone.errors import ChangedFileError, out_of_memory
from loadstone.read.cast import cast
from loadstone.read.files import OpenFiles
from loadstone.read.memory import OWN_PAGES, Bytes, aligned_empty, populate
from loadstone.read.tensor import HostTensor
from loadstone.source.local_file import unreadable

ReadMode = Literal["auto", "map", "copy"]

PIECE = 8 << 20
"""Bytes of a file that one request reads."""
WINDOW = 8
"""Pieces that are on their way at once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One tensor to bring to host memory.

    Attributes:
        name: The parameter it is for.
        info: Where it lies.
        dtype: Canonical dtype to have.
        mappable: Its memory may be a mapping of its file.
    """

    name: str
    info: TensorInfo
    dtype: str
    mappable: bool


@dataclasses.dataclass(slots=True, kw_only=True)
class Traffic:
    """What a load moved, in bytes: read from files, and mapped without reading."""

    read: int = 0
    mapped: int = 0


@dataclasses.dataclass(slots=True, eq=False)
class _Target:
    """A tensor under way: its memory, and how many pieces are still to come."""

    request: Request
    data: Bytes
    pieces: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """A run of bytes of one tensor: offset and size in its file, and where its first element goes."""

    target: _Target
    offset: int
    size: int

    @property
    def casts(self) -> bool:
        """Whether its bytes change on the way."""
        return self.target.request.dtype != self.target.request.info.dtype


def threads() -> int:
    """Return how many threads read: the processors that this process may use, two to four."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(2, min(4, usable))


def read_tensors(
    files: OpenFiles, requests: Iterable[Request], *, alignment: int, traffic: Traffic
) -> Generator[HostTensor]:
    """Yield every requested tensor, in file order; closing it ends its threads.

    Args:
        files: The open files.
        requests: The tensors, in any order.
        alignment: Bytes to which an address must be aligned to be aliased; 0: the size of the element.
        traffic: Counts the bytes.

    Raises:
        ChangedFileError: If a file ends before it should.
    """
    to_read = []
    for request in requests:
        view = _map(files, request, alignment)
        if view is None:
            to_read.append(request)
        else:
            traffic.mapped += request.info.nbytes
            yield _host(request, view, mapped=True)
    order = {name: position for position, name in enumerate(dict.fromkeys(r.info.file for r in to_read))}
    to_read.sort(key=lambda request: (order[request.info.file], request.info.offset))
    yield from _read(files, to_read, traffic)


def same_bytes(files: OpenFiles, one: TensorInfo, other: TensorInfo, *, traffic: Traffic) -> bool:
    """Return whether two stored tensors are equal bit for bit.

    They are read, a piece at a time, and never mapped: a file that becomes shorter meanwhile is an error here, and the
    end of the process where a mapping of it is touched.

    Args:
        files: The open files.
        one: A tensor.
        other: Another.
        traffic: Counts the bytes.

    Raises:
        ChangedFileError: If a file ends before it should.
    """
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    buffers = aligned_empty(PIECE), aligned_empty(PIECE)
    for start in range(0, one.nbytes, PIECE):
        left, right = (buffer[: one.nbytes - start] for buffer in buffers)
        _fill(files, one.file, one.offset + start, [left])
        _fill(files, other.file, other.offset + start, [right])
        traffic.read += len(left) + len(right)
        if not np.array_equal(left, right):
            return False
    return True


def _map(files: OpenFiles, request: Request, alignment: int) -> Bytes | None:
    info = request.info
    if not request.mappable or request.dtype != info.dtype or not info.nbytes:
        return None
    if info.offset % (alignment or max(1, DTYPES[info.dtype].bits // 8)):  # a mapping starts at a page
        return None
    return files.mapped(info.file)[info.offset : info.end]


def _host(request: Request, data: Bytes, *, mapped: bool) -> HostTensor:
    shape = request.info.shape
    return HostTensor(name=request.name, dtype=request.dtype, shape=shape, data=data, mapped=mapped)


def _read(files: OpenFiles, requests: Sequence[Request], traffic: Traffic) -> Iterator[HostTensor]:
    staging = threading.local()

    def run(job: Sequence[_Piece]) -> int:
        return _run(files, job, staging)

    with ThreadPoolExecutor(threads(), thread_name_prefix="loadstone-read") as pool:
        under_way: deque[tuple[Future[int], Sequence[_Piece]]] = deque()
        try:
            for job in _jobs(requests):
                while len(under_way) >= WINDOW:
                    yield from _finish(under_way.popleft(), traffic)
                under_way.append((_submitted(pool, run, job), job))
            while under_way:
                yield from _finish(under_way.popleft(), traffic)
        finally:
            for future, _ in under_way:
                future.cancel()


def _submitted(
    pool: ThreadPoolExecutor, run: Callable[[Sequence[_Piece]], int], job: Sequence[_Piece]
) -> Future[int]:
    try:
        return pool.submit(run, job)
    except RuntimeError as error:  # the system starts no thread: each needs some memory of its own
        raise out_of_memory("for a thread that reads", found=str(error)) from error


def _finish(done: tuple[Future[int], Sequence[_Piece]], traffic: Traffic) -> Iterator[HostTensor]:
    future, job = done
    traffic.read += future.result()
    for piece in job:
        piece.target.pieces -= 1
        if not piece.target.pieces:
            yield _host(piece.target.request, piece.target.data, mapped=False)


def _jobs(requests: Sequence[Request]) -> Iterator[list[_Piece]]:
    """Cut tensors into pieces of at most `PIECE` bytes, and put small neighbours into one job."""
    sizes = [nbytes(request.dtype, request.info.shape) for request in requests]
    # All addresses are taken before the first byte is read: a thread that writes to new pages waits for one that takes
    # addresses. Nothing lies there until it is written.
    own_pages = deque(aligned_empty(size) for size in sizes if size >= OWN_PAGES)
    job: list[_Piece] = []
    size = 0
    for request, needed in zip(requests, sizes, strict=True):
        info = request.info
        target = _Target(request, own_pages.popleft() if needed >= OWN_PAGES else aligned_empty(needed))
        target.pieces = max(1, -(-info.nbytes // PIECE))
        for start in range(0, max(1, info.nbytes), PIECE):
            piece = _Piece(target, info.offset + start, min(PIECE, info.nbytes - start))
            if job and (size + piece.size > PIECE or not _continues(job[-1], piece)):
                yield job
                job, size = [], 0
            job.append(piece)
            size += piece.size
    if job:
        yield job


def _continues(before: _Piece, piece: _Piece) -> bool:
    """Return whether a piece starts where the one before it ends, in the same file."""
    same = before.target.request.info.file == piece.target.request.info.file
    return same and before.offset + before.size == piece.offset


def _run(files: OpenFiles, job: Sequence[_Piece], staging: threading.local) -> int:
    """Read one job, whose pieces lie one after the other in a file, and return its bytes."""
    buffers, size = [], 0
    for piece in job:
        target = _slice(piece)
        populate(target)
        buffers.append(_staged(staging, size, piece) if piece.casts else target)
        size += piece.size
    _fill(files, job[0].target.request.info.file, job[0].offset, buffers)
    for piece, buffer in zip(job, buffers, strict=True):
        if piece.casts:
            request = piece.target.request
            cast(buffer, request.info.dtype, _slice(piece), request.dtype)
    return size


def _staged(staging: threading.local, start: int, piece: _Piece) -> Bytes:
    """Return the part of this thread's staging buffer that a piece is read into; a job is no longer than it."""
    if not hasattr(staging, "buffer"):
        staging.buffer = aligned_empty(PIECE)
    part: Bytes = staging.buffer[start : start + piece.size]
    return part


def _slice(piece: _Piece) -> Bytes:
    """Return the part of the target's memory that a piece fills."""
    info, dtype = piece.target.request.info, piece.target.request.dtype
    start, size = piece.offset - info.offset, piece.size
    if dtype != info.dtype:
        wide, narrow = DTYPES[dtype].itemsize, DTYPES[info.dtype].itemsize
        start, size = start * wide // narrow, size * wide // narrow
    return piece.target.data[start : start + size]


def _fill(files: OpenFiles, file: str, offset: int, buffers: Sequence[Bytes]) -> None:
    """Read consecutive bytes of a file into buffers, however many calls it takes."""
    left = deque(memoryview(buffer.data) for buffer in buffers if len(buffer))
    read: Callable[..., int] = os.preadv
    with files.descriptor(file) as descriptor:
        while left:
            try:
                count = read(descriptor, list(left)[:1024], offset)
            except OSError as error:
                raise unreadable(file, error) from error
            if not count:
                raise ChangedFileError(
                    "a file ended before it should",
                    where=file,
                    expected=f"more bytes at {offset}",
                    hint="load again",
                )
            offset += count
            while left and count >= len(left[0]):
                count -= len(left.popleft())
            if count:
                left[0] = left[0][count:]
