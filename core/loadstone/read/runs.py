"""Runs of bytes: where a block of a tensor lies in its file. Numbers alone; no bytes are touched."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

Window = Sequence[tuple[int, int]]
"""For each axis of a tensor, the first index and the one after the last."""

GAP = 4096
"""Bytes between two runs up to which both are read at once.

Measured on cached files: a call for each run takes 2 to 7 times as long where 4 kB lie between them, and no longer than
reading them too from 8 to 16 kB on.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Runs:
    """Equal runs of bytes at equal distances.

    Attributes:
        offset: Bytes from the start of the tensor to the first.
        length: Bytes of each.
        count: How many there are.
        stride: Bytes from the start of one to the start of the next.
        within: Which numbers of the window they are, one slice for each axis.
    """

    offset: int
    length: int
    count: int
    stride: int
    within: tuple[slice, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that are wanted."""
        return self.length * self.count

    @property
    def span(self) -> int:
        """Bytes from the start of the first to the end of the last; 0 where there are none."""
        return (self.count - 1) * self.stride + self.length if self.count else 0

    @property
    def merged(self) -> bool:
        """Whether they are read at once, with what lies between them."""
        return self.count > 1 and self.stride - self.length <= GAP


def contiguous(shape: Sequence[int], window: Window, bits: int) -> tuple[int, int] | None:
    """Return the offset and number of bytes of a block that lies in one piece; None where it does not.

    Args:
        shape: Sizes of the tensor's axes.
        window: The block.
        bits: Of one number; a block of packed ones must begin and end at a byte.
    """
    inner = _inner(shape, window)
    if any(stop - start != 1 for start, stop in window[: max(0, inner)]):
        return (0, 0) if any(stop <= start for start, stop in window) else None
    first, size = _first(shape, window) * bits, math.prod(stop - start for start, stop in window) * bits
    return (first // 8, size // 8) if first % 8 == size % 8 == 0 else None


def runs(shape: Sequence[int], window: Window, itemsize: int, *, limit: int) -> Iterator[Runs]:
    """Yield where a block lies, in the order of the file, so that no more than `limit` bytes are read at a time.

    Args:
        shape: Sizes of the tensor's axes.
        window: The block.
        itemsize: Bytes of one number.
        limit: Bytes; a number is read whole even where it is larger.
    """
    if any(stop <= start for start, stop in window):
        return
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    if not shape:
        yield Runs(0, itemsize, 1, itemsize, ())
        return
    row, length = _rows(shape, window, strides, limit)
    rows, stride = window[row], strides[row]
    at_once = max(1, limit // (stride if stride - length <= GAP else length))
    for outer in itertools.product(*(range(*bounds) for bounds in window[:row])):
        base = sum(index * strides[axis] for axis, index in enumerate(outer))
        for low in range(rows[0], rows[1], at_once):
            high = min(rows[1], low + at_once)
            starts = (index - window[axis][0] for axis, index in enumerate(outer))
            within = [slice(start, start + 1) for start in starts]
            within += [slice(low - rows[0], high - rows[0])]
            within += [slice(0, stop - start) for start, stop in window[row + 1 :]]
            offset = base + low * stride + _first(shape[row + 1 :], window[row + 1 :]) * itemsize
            yield Runs(offset, length, high - low, stride, tuple(within))


def _rows(shape: Sequence[int], window: Window, strides: Sequence[int], limit: int) -> tuple[int, int]:
    """Return the axis along which there are many runs, and the bytes of one: all of the axes behind it that is wanted."""
    inner = _inner(shape, window)
    length = strides[inner] * (window[inner][1] - window[inner][0])
    if inner and length <= limit:
        return inner - 1, length
    row = inner
    while strides[row] > limit and row + 1 < len(shape):  # a run that is too long is cut
        row += 1
    return row, strides[row]


def _inner(shape: Sequence[int], window: Window) -> int:
    """Return the last axis of which not everything is wanted; 0 where everything is."""
    partial = [
        axis
        for axis, (size, (start, stop)) in enumerate(zip(shape, window, strict=True))
        if stop - start != size
    ]
    return partial[-1] if partial else 0


def _first(shape: Sequence[int], window: Window) -> int:
    """Return how many numbers come before the first of a block."""
    before = 0
    for size, (start, _) in zip(shape, window, strict=True):
        before = before * size + start
    return before
