"""Views: tensors whose numbers do not lie row by row. Numbers alone; no bytes are touched."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

Shape = tuple[int, ...]
Window = tuple[tuple[int, int], ...]
"""For each axis of a block, the first index and the one after the last."""


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many numbers lie from a tensor's first one to its last, both included; 0 where it has none."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def row_by_row(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Return whether a tensor's numbers lie one after the other, those along the last axis first.

    Example:
        >>> row_by_row((2, 3), (3, 1)), row_by_row((2, 3), (1, 2))
        (True, False)
    """
    if 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view as windows of a block that lies row by row and begins with the view's first number.

    Attributes:
        sizes: Sizes of the block's axes. It may be longer than what is stored, behind the last number of the view.
        axes: For each axis of the block but the last, the axis of the view that it is; of the last one index is taken.
        picked: For each axis of the block, the axes of the view along which one moves by whole windows in it.
        strides: For each axis of the block, how many numbers lie from one index to the next.
        repeated: Axes of the view along which the same numbers stand again and again.
    """

    sizes: Shape
    axes: tuple[int, ...]
    picked: tuple[tuple[int, ...], ...]
    strides: Shape
    repeated: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], strides: Sequence[int]) -> View | None:
        """Return the windows of a view; None where its rows lie over one another.

        Args:
            shape: Sizes of the view's axes, none of them 0.
            strides: For each axis, how many numbers lie from one to the next.
        """
        moving = sorted(
            (axis for axis, size in enumerate(shape) if size > 1 and strides[axis]), key=strides.__getitem__
        )
        inner = 1
        for axis in moving:
            if strides[axis] < inner:
                return None
            inner += (shape[axis] - 1) * strides[axis]
        repeated = tuple(axis for axis, size in enumerate(shape) if size > 1 and not strides[axis])
        sizes: list[int] = []
        axes: list[int] = []
        picked: list[tuple[int, ...]] = []
        pending: list[int] = []
        for axis in reversed(moving):
            steps = [strides[axes[-1]]] if axes else []
            if any(step % strides[axis] for step in (*steps, *(strides[other] for other in pending))):
                pending.append(axis)
                continue
            sizes.append(steps[0] // strides[axis] if steps else shape[axis])
            axes.append(axis)
            picked.append(tuple(pending))
            pending = []
        sizes.append(strides[axes[-1]] if axes else 1)
        picked.append(tuple(pending))
        own = (*(strides[axis] for axis in axes), 1)
        return cls(sizes=tuple(sizes), axes=tuple(axes), picked=tuple(picked), strides=own, repeated=repeated)

    def count(self, shape: Sequence[int]) -> int:
        """Return how many windows there are."""
        alone = (*self.repeated, *itertools.chain.from_iterable(self.picked))
        return math.prod(shape[axis] for axis in alone)

    def windows(self, shape: Sequence[int], strides: Sequence[int]) -> Iterator[tuple[Window, Shape]]:
        """Yield each window of the block, and where it goes in the view: its first index for each axis."""
        alone = {*self.repeated, *itertools.chain.from_iterable(self.picked)}
        for at in itertools.product(
            *(range(size if axis in alone else 1) for axis, size in enumerate(shape))
        ):
            window = []
            for axis, stride, picked in itertools.zip_longest(self.axes, self.strides, self.picked):
                start = sum(at[other] * strides[other] for other in picked) // stride
                window.append((start, start + (1 if axis is None else shape[axis])))
            yield tuple(window), at
