"""The engine: map what can be aliased, read the rest in file order, in parallel, within a fixed buffer.

A tensor is mapped where its dtype stays, its address suits the backend and its file lies on a local disk: then no
byte of it is read. Everything else is read with `preadv` straight into the memory that the framework will alias;
casts and packed numbers go through one staging buffer a thread. What a source reads where it lies, far away, comes the
same way. At most `WINDOW` pieces are on their way at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.recipe import Window, whole
from loadstone.errors import ChangedFileError, out_of_memory
from loadstone.read import pieces
from loadstone.read.cast import cast
from loadstone.read.encoded import fill as fill_encoded
from loadstone.read.files import OpenFiles
from loadstone.read.memory import Bytes, aligned_empty, populate
from loadstone.read.pieces import (
    Block,
    Piece,
    Request,
    blocks_of,
    bytes_of,
    job_limit,
    jobs,
    memory_of,
    would_map,
)
from loadstone.read.runs import Runs
from loadstone.read.steps import region
from loadstone.read.tensor import HostTensor
from loadstone.read.unpack import in_numbers, numbers_of, unpack
from loadstone.source.local_file import unreadable

WINDOW = 8
"""Pieces that are on their way at once; of files that lie far away, two for each read that may be under way."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Traffic:
    """What a load moved, in bytes: read from files, and mapped without reading."""

    read: int = 0
    mapped: int = 0


class Bar(Protocol):
    """Shows how far a load is."""

    def __call__(self, *, total: int) -> contextlib.AbstractContextManager[Callable[[int], object]]:
        """Give a function to call with the number of bytes that have passed since its last call."""


def threads() -> int:
    """Return how many threads read: the processors that this process may use, two to four."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(2, min(4, usable))


def read_tensors(
    files: OpenFiles,
    requests: Iterable[Request],
    *,
    alignment: int,
    traffic: Traffic,
    bar: Bar | None = None,
) -> Generator[HostTensor]:
    """Yield every requested tensor, in file order; closing it ends its threads.

    Args:
        files: The open files.
        requests: The tensors, in any order.
        alignment: Bytes to which an address must be aligned to be aliased; 0: the size of the element.
        traffic: Counts the bytes.
        bar: Opened with the number of bytes that will be read, where there are any, and told of each as it passes.

    Raises:
        ChangedFileError: If a file ends before it should.
    """
    to_read = []
    for request in requests:
        view = _map(files, request, alignment)
        if view is None:
            to_read.append(request)
        else:
            traffic.mapped += view.nbytes
            yield _host(request, view, mapped=True)
    blocks = blocks_of(to_read)
    del to_read
    if blocks:
        with contextlib.nullcontext(_unseen) if bar is None else bar(total=bytes_of(blocks)) as advance:
            yield from _read(files, blocks, traffic, advance)


def _unseen(number: int) -> None:
    """Show nothing."""


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
    packed = one.packing != other.packing or one.encoding is not None or other.encoding is not None
    if one.strides is not None or other.strides is not None or one.pieces or other.pieces or packed:
        return _same_views(files, one, other, traffic)
    buffers = aligned_empty(pieces.PIECE), aligned_empty(pieces.PIECE)
    for start in range(0, one.nbytes, pieces.PIECE):
        left, right = (buffer[: one.nbytes - start] for buffer in buffers)
        _fill(files, one, one.offset + start, [left])
        _fill(files, other, other.offset + start, [right])
        traffic.read += len(left) + len(right)
        if not np.array_equal(left, right):
            return False
    return True


def _same_views(files: OpenFiles, one: TensorInfo, other: TensorInfo, traffic: Traffic) -> bool:
    """Return the same of tensors that do not both lie row by row, in one piece: each is brought into that order first."""
    requests = [
        Request(name=name, recipe=whole(info, info.dtype), shape=info.shape, mappable=False)
        for name, info in (("one", one), ("other", other))
    ]
    first, second = (tensor.data for tensor in read_tensors(files, requests, alignment=0, traffic=traffic))
    return bool(np.array_equal(first, second))


def _map(files: OpenFiles, request: Request, alignment: int) -> Bytes | None:
    found = would_map(request, alignment)
    if found is None or files.is_far(request.recipe.sources[0].file):
        return None
    offset, size = found
    return files.mapped(request.recipe.sources[0].file)[offset : offset + size]


def _host(request: Request, data: Bytes, *, mapped: bool) -> HostTensor:
    return HostTensor(name=request.name, dtype=request.dtype, shape=request.shape, data=data, mapped=mapped)


def _read(
    files: OpenFiles, blocks: deque[Block], traffic: Traffic, advance: Callable[[int], object]
) -> Iterator[HostTensor]:
    staging = threading.local()

    def run(job: Sequence[Piece]) -> int:
        return _run(files, job, staging)

    far = files.reads_at_once
    with ThreadPoolExecutor(far or threads(), thread_name_prefix="loadstone-read") as pool:
        under_way: deque[tuple[Future[int], Sequence[Piece]]] = deque()
        try:
            for job in jobs(blocks):
                while len(under_way) >= max(WINDOW, 2 * far):
                    yield from _finish(under_way.popleft(), traffic, advance)
                under_way.append((_submitted(pool, run, job), job))
            while under_way:
                yield from _finish(under_way.popleft(), traffic, advance)
        finally:
            for future, _ in under_way:
                future.cancel()


def _submitted(
    pool: ThreadPoolExecutor, run: Callable[[Sequence[Piece]], int], job: Sequence[Piece]
) -> Future[int]:
    try:
        return pool.submit(run, job)
    except RuntimeError as error:  # the system starts no thread: each needs some memory of its own
        raise out_of_memory("for a thread that reads", found=str(error)) from error


def _finish(
    done: tuple[Future[int], Sequence[Piece]], traffic: Traffic, advance: Callable[[int], object]
) -> Iterator[HostTensor]:
    future, job = done
    number = future.result()
    traffic.read += number
    advance(number)
    for piece in job:
        if piece.last:
            destination = piece.block.destination
            yield _host(destination.request, destination.data, mapped=False)


def _run(files: OpenFiles, job: Sequence[Piece], staging: threading.local) -> int:
    """Read one job, whose pieces lie one after the other in a file, and return its bytes."""
    first = job[0]
    if first.window is not None:
        return _run_encoded(files, first, first.window)
    if first.runs is not None:
        return _run_runs(files, first, first.runs, staging)
    buffers, size = [], 0
    for piece in job:
        destination = memory_of(piece)
        populate(destination)
        buffers.append(_staged(staging, size, piece.size) if piece.block.casts else destination)
        size += piece.size
    _fill(files, first.block.info, first.offset, buffers)
    for piece, buffer in zip(job, buffers, strict=True):
        info, dtype = piece.block.info, piece.block.destination.request.dtype
        if info.packing is not None:
            unpack(buffer, info.packing, memory_of(piece), dtype)
        elif dtype != info.dtype:
            cast(buffer, info.dtype, memory_of(piece), dtype)
    return size


def _run_encoded(files: OpenFiles, piece: Piece, window: Window) -> int:
    """Have a library read a window."""
    block = piece.block
    assert block.part is not None
    path = files.path(block.info.file)
    fill_encoded(path, block.info, block.part, window, block.destination.array(), pieces.PIECE)
    return piece.size


def _run_runs(files: OpenFiles, piece: Piece, found: Runs, staging: threading.local) -> int:
    """Read runs of bytes, those that lie near one another with what is between them, and put the numbers in place."""
    block, buffer = piece.block, _staged(staging, 0, piece.size)
    part = block.part
    assert part is not None
    if found.merged or found.count == 1:
        _fill(files, block.info, piece.offset, [buffer])
        stride = found.stride
    else:
        stride = found.length
        for number in range(found.count):
            start = number * found.length
            _fill(
                files,
                block.info,
                piece.offset + number * found.stride,
                [buffer[start : start + found.length]],
            )
    rows = np.lib.stride_tricks.as_strided(buffer, (found.count, found.length), (stride, 1), writeable=False)
    within: Any = (*in_numbers(block.info, found.within), ...)
    into = region(block.destination.array(), part)[within]
    numbers = numbers_of(np.ascontiguousarray(rows).reshape(-1), block.info).reshape(into.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        into[...] = numbers
    return piece.size


def _staged(staging: threading.local, start: int, size: int) -> Bytes:
    """Return a part of this thread's staging buffer; a job is no longer than it, unless one packed block is."""
    if not hasattr(staging, "buffer") or len(staging.buffer) < start + size:
        staging.buffer = aligned_empty(max(job_limit(), start + size))
    part: Bytes = staging.buffer[start : start + size]
    return part


def _fill(files: OpenFiles, info: TensorInfo, offset: int, buffers: Sequence[Bytes]) -> None:
    """Read consecutive bytes of a tensor, and of its neighbours, into buffers."""
    left = deque(memoryview(buffer.data) for buffer in buffers if len(buffer))
    if info.chunks is None:
        _fill_from(files, info.file, offset, left)
        return
    for start, size in info.stretches(offset, sum(map(len, left))):
        taken: deque[memoryview] = deque()
        while size:
            part = left[0][:size]
            taken.append(part)
            size -= len(part)
            left[0] = left[0][len(part) :]
            if not left[0]:
                left.popleft()
        _fill_from(files, info.file, start, taken)


def _fill_from(files: OpenFiles, file: str, offset: int, left: deque[memoryview]) -> None:
    """Read consecutive bytes of a file, however many calls it takes."""
    if files.is_far(file):
        files.fill(file, offset, list(left))
        return
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
