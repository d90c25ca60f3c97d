"""What is read together: the parts of the tensors that were asked for, cut into pieces in file order. No byte is read here."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.recipe import Part, Recipe, Window, block_of
from loadstone.dtypes import DTYPES, nbytes, to_numpy
from loadstone.read.encoded import windows_of
from loadstone.read.memory import OWN_PAGES, Bytes, aligned_empty
from loadstone.read.runs import Runs, contiguous, runs
from loadstone.read.steps import Array
from loadstone.read.unpack import count_of, in_blocks, limit_of, piece_of

PIECE = 8 << 20
"""Bytes of a file that one request reads of a tensor."""


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


class Destination:
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
class Block:
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

    destination: Destination
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
class Piece:
    """Bytes of one block that are read together.

    Attributes:
        block: The block.
        offset: Bytes from the start of the file to the first.
        size: Bytes that the staging buffer must hold.
        runs: Where they lie, unless they go straight from one piece of the file into one of the tensor's memory.
        last: The tensor is complete with it.
        window: Which numbers they are, where a library finds them.
    """

    block: Block
    offset: int
    size: int
    runs: Runs | None
    last: bool
    window: Window | None = None

    def follows(self, other: Piece) -> bool:
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


def bytes_of(blocks: Iterable[Block]) -> int:
    """Return the bytes that are read for blocks."""
    return sum(
        block.place[1]
        if block.place is not None and block.into is not None
        else sum(piece.size for piece in _pieces(block))
        for block in blocks
    )


def blocks_of(requests: Sequence[Request]) -> deque[Block]:
    """Return the parts of all tensors, in file order."""
    found = [block for request in requests for block in _parts_of(Destination(request))]
    files = {
        name: position for position, name in enumerate(dict.fromkeys(block.info.file for block in found))
    }
    found.sort(
        key=lambda block: (files[block.info.file], block.place[0] if block.place else block.info.offset)
    )
    for block in {block.destination: block for block in found}.values():
        block.last = True
    return deque(found)


def _parts_of(destination: Destination) -> Iterator[Block]:
    recipe, shape = destination.request.recipe, destination.request.shape
    whole = recipe.whole
    if whole is not None and whole.encoding is None:
        yield Block(destination, whole, None, (whole.offset, whole.nbytes), 0)
        return
    for part in recipe.parts:
        info = block_of(recipe.sources[part.source])
        goes = tuple((at, at + size) for at, size in zip(part.at, part.extent, strict=True))
        into = contiguous(shape, goes, DTYPES[recipe.dtype].bits) if part.in_order else None
        place = _place(info, part) if info.encoding is None else None
        yield Block(destination, info, part, place, None if into is None else into[0])


def jobs(blocks: deque[Block]) -> Iterator[list[Piece]]:
    """Cut tensors into pieces of at most `PIECE` bytes, and put small neighbours into one job of at most `job_limit()`."""
    job: list[Piece] = []
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


def _pieces(block: Block) -> Iterator[Piece]:
    """Cut one block."""
    if block.place is not None and block.into is not None:
        offset, size = block.place
        step = piece_of(block.info, PIECE)
        for start in range(0, max(1, size), step):
            stop = min(start + step, size)
            yield Piece(block, offset + start, stop - start, None, block.last and stop == size)
        return
    info, part = block.info, block.part
    assert part is not None
    if info.encoding is not None:
        windows = list(windows_of(info, part.window, PIECE))
        for number, (window_read, size) in enumerate(windows, start=1):
            yield Piece(block, info.offset, size, None, block.last and number == len(windows), window_read)
        return
    pending: Runs | None = None
    shape, window, bits = in_blocks(info, part.window)
    for found in runs(shape, window, bits // 8, limit=limit_of(info, PIECE)):
        if pending is not None:
            yield _of_runs(block, pending, last=False)
        pending = found
    if pending is not None:
        yield _of_runs(block, pending, last=block.last)


def _of_runs(block: Block, found: Runs, *, last: bool) -> Piece:
    size = found.span if found.merged else found.nbytes
    return Piece(block, block.info.offset + found.offset, size, found, last)


def memory_of(piece: Piece) -> Bytes:
    """Return the part of the tensor's memory that a piece fills."""
    block, dtype = piece.block, piece.block.destination.request.dtype
    assert block.place is not None and block.into is not None
    start, size = piece.offset - block.place[0], piece.size
    if block.casts:
        wide = DTYPES[dtype].itemsize
        start, size = (count_of(block.info, number) * wide for number in (start, size))
    return block.destination.data[block.into + start : block.into + start + size]
