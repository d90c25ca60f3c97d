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
from loadstone.checkpoint.recipe import Part, Recipe, Window, block_of, whole
from loadstone.dtypes import DTYPES, nbytes, to_numpy
from loadstone.errors import ChangedFileError, out_of_memory
from loadstone.read.cast import cast
from loadstone.read.encoded import fill as fill_encoded
from loadstone.read.encoded import windows_of
from loadstone.read.files import OpenFiles
from loadstone.read.memory import OWN_PAGES, Bytes, aligned_empty, populate
from loadstone.read.runs import Runs, contiguous, runs
from loadstone.read.steps import Array, region
from loadstone.read.tensor import HostTensor
from loadstone.read.unpack import count_of, in_blocks, in_numbers, limit_of, numbers_of, piece_of, unpack
from loadstone.source.local_file import unreadable

PIECE = 8 << 20
"""Bytes of a file that one request reads of a tensor."""
WINDOW = 8
"""Pieces that are on their way at once; of files that lie far away, two for each read that may be under way."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One tensor to bring to host memory.

    Attributes:
        name: The parameter it is for.
        recipe: What it is made from; of its sources those bytes are read that it needs, and no others.
        shape: Sizes of its axes.
        mappable: Its memory may be a mapping of its file.
    """

    name: str
    recipe: Recipe
    shape: tuple[int, ...]
    mappable: bool

    @property
    def dtype(self) -> str:
        """Canonical dtype to have."""
        return self.recipe.dtype


@dataclasses.dataclass(slots=True, kw_only=True)
class Traffic:
    """What a load moved, in bytes: read from files, and mapped without reading."""

    read: int = 0
    mapped: int = 0


class Bar(Protocol):
    """Shows how far a load is."""

    def __call__(self, *, total: int) -> contextlib.AbstractContextManager[Callable[[int], object]]:
        """Give a function to call with the number of bytes that have passed since its last call."""


class _Destination:
    """A tensor under way, and its memory."""

    def __init__(self, request: Request) -> None:
        self.request = request
        size = nbytes(request.dtype, request.shape)
        # Large addresses are taken before the first byte is read: a thread that writes to new pages waits for one that
        # takes addresses. Nothing lies there until it is written.
        self._data = aligned_empty(size) if size >= OWN_PAGES else None

    @property
    def data(self) -> Bytes:
        """Its bytes; small memory is taken when it is first asked for, by the thread that deals out the work."""
        if self._data is None:
            self._data = aligned_empty(nbytes(self.request.dtype, self.request.shape))
        return self._data

    def array(self) -> Array:
        """Return its memory as an array of its dtype and shape."""
        return self.data.view(to_numpy(self.request.dtype)).reshape(self.request.shape)


@dataclasses.dataclass(slots=True, eq=False)
class _Block:
    """A part of a tensor, and where its bytes lie.

    Attributes:
        destination: The tensor.
        info: The source.
        part: Which numbers of the source, and where they go.
        place: Offset in the file and number of bytes, where they lie in one piece; else None.
        into: Bytes from the start of the tensor's memory to the first, where they go into one piece in the same order;
            else None.
        last: No other part of the tensor comes after it.
    """

    destination: _Destination
    info: TensorInfo
    part: Part | None
    place: tuple[int, int] | None
    into: int | None
    last: bool = False

    @property
    def casts(self) -> bool:
        """Whether its bytes change on the way."""
        return self.info.packing is not None or self.destination.request.dtype != self.info.dtype


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Bytes of one block that are read together.

    Attributes:
        block: The block.
        offset: Bytes from the start of the file to the first.
        size: Bytes that the staging buffer must hold.
        runs: Where they lie, unless they go straight from one piece of the file into one of the tensor's memory.
        last: The tensor is complete with it.
        window: Which numbers they are, where a library finds them.
    """

    block: _Block
    offset: int
    size: int
    runs: Runs | None
    last: bool
    window: Window | None = None

    def follows(self, other: _Piece) -> bool:
        """Return whether it starts where another one ends, so that both can be read at once."""
        straight = self.runs is other.runs is None and self.window is other.window is None
        return (
            straight
            and self.block.info.chunks is other.block.info.chunks is None
            and self.block.info.file == other.block.info.file
            and other.offset + other.size == self.offset
        )


def job_limit() -> int:
    """Return the bytes that one request reads at most: small neighbours of a piece come with it."""
    return PIECE + PIECE // 8


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
    blocks = _blocks(to_read)
    del to_read
    if blocks:
        with contextlib.nullcontext(_unseen) if bar is None else bar(total=_bytes_of(blocks)) as advance:
            yield from _read(files, blocks, traffic, advance)


def _unseen(number: int) -> None:
    """Show nothing."""


def _bytes_of(blocks: Iterable[_Block]) -> int:
    """Return the bytes that are read for blocks."""
    return sum(
        block.place[1]
        if block.place is not None and block.into is not None
        else sum(piece.size for piece in _pieces(block))
        for block in blocks
    )


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
    buffers = aligned_empty(PIECE), aligned_empty(PIECE)
    for start in range(0, one.nbytes, PIECE):
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


def would_map(request: Request, alignment: int) -> tuple[int, int] | None:
    """Return the offset in its file and the bytes of a tensor that is mapped; None for one that is read."""
    if not request.mappable or len(request.recipe.sources) != 1:
        return None
    (info,) = request.recipe.sources
    if info.chunks is not None or info.encoding is not None:
        return None
    found = _in_one_piece(request.recipe, request.shape)
    if info.packing is not None or request.dtype != info.dtype or found is None or not found[1]:
        return None
    if found[0] % (alignment or max(1, DTYPES[info.dtype].bits // 8)):  # a mapping starts at a page
        return None
    return found


def _in_one_piece(recipe: Recipe, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the offset in the file and the bytes of what a recipe takes of its one source, in the order that it lies in."""
    whole = recipe.whole
    if whole is not None:
        return whole.offset, whole.nbytes
    found = recipe.parts
    if len(found) != 1 or not found[0].in_order or found[0].extent != shape:
        return None
    return _place(block_of(recipe.sources[0]), found[0])


def _place(info: TensorInfo, part: Part) -> tuple[int, int] | None:
    shape, window, bits = in_blocks(info, part.window)
    found = contiguous(shape, window, bits)
    return (info.offset + found[0], found[1]) if found is not None else None


def _host(request: Request, data: Bytes, *, mapped: bool) -> HostTensor:
    return HostTensor(name=request.name, dtype=request.dtype, shape=request.shape, data=data, mapped=mapped)


def _read(
    files: OpenFiles, blocks: deque[_Block], traffic: Traffic, advance: Callable[[int], object]
) -> Iterator[HostTensor]:
    staging = threading.local()

    def run(job: Sequence[_Piece]) -> int:
        return _run(files, job, staging)

    far = files.reads_at_once
    with ThreadPoolExecutor(far or threads(), thread_name_prefix="loadstone-read") as pool:
        under_way: deque[tuple[Future[int], Sequence[_Piece]]] = deque()
        try:
            for job in _jobs(blocks):
                while len(under_way) >= max(WINDOW, 2 * far):
                    yield from _finish(under_way.popleft(), traffic, advance)
                under_way.append((_submitted(pool, run, job), job))
            while under_way:
                yield from _finish(under_way.popleft(), traffic, advance)
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


def _finish(
    done: tuple[Future[int], Sequence[_Piece]], traffic: Traffic, advance: Callable[[int], object]
) -> Iterator[HostTensor]:
    future, job = done
    number = future.result()
    traffic.read += number
    advance(number)
    for piece in job:
        if piece.last:
            destination = piece.block.destination
            yield _host(destination.request, destination.data, mapped=False)


def _blocks(requests: Sequence[Request]) -> deque[_Block]:
    """Return the parts of all tensors, in file order."""
    found = [block for request in requests for block in _blocks_of(_Destination(request))]
    files = {
        name: position for position, name in enumerate(dict.fromkeys(block.info.file for block in found))
    }
    found.sort(
        key=lambda block: (files[block.info.file], block.place[0] if block.place else block.info.offset)
    )
    for block in {block.destination: block for block in found}.values():
        block.last = True
    return deque(found)


def _blocks_of(destination: _Destination) -> Iterator[_Block]:
    recipe, shape = destination.request.recipe, destination.request.shape
    whole = recipe.whole
    if whole is not None and whole.encoding is None:
        yield _Block(destination, whole, None, (whole.offset, whole.nbytes), 0)
        return
    for part in recipe.parts:
        info = block_of(recipe.sources[part.source])
        goes = tuple((at, at + size) for at, size in zip(part.at, part.extent, strict=True))
        into = contiguous(shape, goes, DTYPES[recipe.dtype].bits) if part.in_order else None
        place = _place(info, part) if info.encoding is None else None
        yield _Block(destination, info, part, place, None if into is None else into[0])


def _jobs(blocks: deque[_Block]) -> Iterator[list[_Piece]]:
    """Cut tensors into pieces of at most `PIECE` bytes, and put small neighbours into one job of at most `job_limit()`."""
    job: list[_Piece] = []
    size = 0
    while blocks:  # none is held longer than it is under way: what a device has copied is free again
        for piece in _pieces(blocks.popleft()):
            if job and (size + piece.size > job_limit() or not piece.follows(job[-1])):
                yield job
                job, size = [], 0
            job.append(piece)
            size += piece.size
    if job:
        yield job


def _pieces(block: _Block) -> Iterator[_Piece]:
    """Cut one block."""
    if block.place is not None and block.into is not None:
        offset, size = block.place
        step = piece_of(block.info, PIECE)
        for start in range(0, max(1, size), step):
            stop = min(start + step, size)
            yield _Piece(block, offset + start, stop - start, None, block.last and stop == size)
        return
    info, part = block.info, block.part
    assert part is not None
    if info.encoding is not None:
        windows = list(windows_of(info, part.window, PIECE))
        for number, (window_read, size) in enumerate(windows, start=1):
            yield _Piece(block, info.offset, size, None, block.last and number == len(windows), window_read)
        return
    pending: Runs | None = None
    shape, window, bits = in_blocks(info, part.window)
    for found in runs(shape, window, bits // 8, limit=limit_of(info, PIECE)):
        if pending is not None:
            yield _of_runs(block, pending, last=False)
        pending = found
    if pending is not None:
        yield _of_runs(block, pending, last=block.last)


def _of_runs(block: _Block, found: Runs, *, last: bool) -> _Piece:
    size = found.span if found.merged else found.nbytes
    return _Piece(block, block.info.offset + found.offset, size, found, last)


def _run(files: OpenFiles, job: Sequence[_Piece], staging: threading.local) -> int:
    """Read one job, whose pieces lie one after the other in a file, and return its bytes."""
    first = job[0]
    if first.window is not None:
        return _run_encoded(files, first, first.window)
    if first.runs is not None:
        return _run_runs(files, first, first.runs, staging)
    buffers, size = [], 0
    for piece in job:
        destination = _slice(piece)
        populate(destination)
        buffers.append(_staged(staging, size, piece.size) if piece.block.casts else destination)
        size += piece.size
    _fill(files, first.block.info, first.offset, buffers)
    for piece, buffer in zip(job, buffers, strict=True):
        info, dtype = piece.block.info, piece.block.destination.request.dtype
        if info.packing is not None:
            unpack(buffer, info.packing, _slice(piece), dtype)
        elif dtype != info.dtype:
            cast(buffer, info.dtype, _slice(piece), dtype)
    return size


def _run_encoded(files: OpenFiles, piece: _Piece, window: Window) -> int:
    """Have a library read a window."""
    block = piece.block
    assert block.part is not None
    path = files.path(block.info.file)
    fill_encoded(path, block.info, block.part, window, block.destination.array(), PIECE)
    return piece.size


def _run_runs(files: OpenFiles, piece: _Piece, found: Runs, staging: threading.local) -> int:
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


def _slice(piece: _Piece) -> Bytes:
    """Return the part of the tensor's memory that a piece fills."""
    block, dtype = piece.block, piece.block.destination.request.dtype
    assert block.place is not None and block.into is not None
    start, size = piece.offset - block.place[0], piece.size
    if block.casts:
        wide = DTYPES[dtype].itemsize
        start, size = (count_of(block.info, number) * wide for number in (start, size))
    return block.destination.data[block.into + start : block.into + start + size]


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
