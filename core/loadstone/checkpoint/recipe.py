"""How a parameter is made from stored tensors: steps as data, and what they come to in blocks of numbers.

A recipe is neutral: it holds no bytes and no function. `parts` works out which block of which source goes where, so that
whoever carries it out (the engine from files, saving from a model) moves each number once, straight to its place.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeVar

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.strides import View, row_by_row

Shape = tuple[int, ...]
T = TypeVar("T")
Window = tuple[tuple[int, int], ...]
"""For each axis of a tensor, the first index and the one after the last."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cast:
    """Each number becomes the nearest one of another dtype. There is no way back."""

    dtype: str


@dataclasses.dataclass(frozen=True, slots=True)
class Transpose:
    """Axis `i` of the result is axis `axes[i]` of what comes in."""

    axes: tuple[int, ...]

    @property
    def inverse(self) -> Transpose:
        """The step that undoes it."""
        return Transpose(tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__)))


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """The indices from `start` to before `stop` of one axis."""

    axis: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, slots=True)
class Concatenate:
    """All that comes in, one after the other along an axis."""

    axis: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """All that comes in, side by side along a new axis."""

    axis: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unstack:
    """One entry of an axis, which is gone in the result."""

    axis: int
    index: int


Step = Cast | Transpose | Slice | Concatenate | Stack | Unstack


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A block of numbers of one source, and where it goes.

    Attributes:
        source: Which of the recipe's sources.
        window: The block, in the source.
        axes: For each axis of the result, the source's axis that it is, or None for one that is new.
        at: For each axis of the result, where the block begins.
    """

    source: int
    window: Window
    axes: tuple[int | None, ...]
    at: tuple[int, ...]

    @property
    def extent(self) -> Shape:
        """Sizes of the block in the result."""
        return tuple(1 if axis is None else self.window[axis][1] - self.window[axis][0] for axis in self.axes)

    @property
    def in_order(self) -> bool:
        """Whether the numbers keep their order."""
        kept = [axis for axis in self.axes if axis is not None]
        return kept == sorted(kept)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a tensor is made from others.

    Attributes:
        sources: The stored tensors, in the order in which the steps take them.
        steps: What happens to them; () takes the one source as it is. A step before the first `Concatenate` or `Stack`
            happens to each source.
    """

    sources: tuple[TensorInfo, ...]
    steps: tuple[Step, ...] = ()

    @property
    def whole(self) -> TensorInfo | None:
        """The stored tensor that is taken whole, cast or not; None where there is more to do."""
        if len(self.sources) == 1 and all(isinstance(step, Cast) for step in self.steps):
            if self.sources[0].strides is not None:
                return None
            return self.sources[0]
        return None

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        casts = [step.dtype for step in self.steps if isinstance(step, Cast)]
        return casts[-1] if casts else self.sources[0].dtype

    @property
    def shape(self) -> Shape:
        """The sizes of the result.

        Raises:
            ValueError: If the steps do not fit the sources.
        """
        return _made([_stored(number, source) for number, source in enumerate(self.sources)], self.steps)[0]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The blocks that make up the result; each of its numbers is in one of them.

        Raises:
            ValueError: If the steps do not fit the sources.
        """
        return _made([_stored(number, source) for number, source in enumerate(self.sources)], self.steps)[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the sources that the result needs."""
        whole = self.whole
        if whole is not None:
            return whole.nbytes
        bits = (_bits_of(math.prod(part.extent), self.sources[part.source]) for part in self.parts)
        return (sum(bits) + 7) // 8


def whole(source: TensorInfo, dtype: str) -> Recipe:
    """Return the recipe that takes a stored tensor as it is, or cast to another dtype."""
    cast = () if dtype == source.dtype else (Cast(dtype),)
    if source.pieces:
        return Recipe(sources=source.pieces, steps=(Concatenate(0), *cast))
    return Recipe(sources=(source,), steps=cast)


def _bits_of(number: int, source: TensorInfo) -> int:
    """Return the bits of so many of a source's numbers."""
    count = math.prod(source.shape)
    return number * source.nbytes * 8 // count if count else 0


Value = tuple[Shape, tuple[Part, ...]]
"""A tensor that is made of others: its sizes, and the blocks that make it up."""


def result(shapes: Sequence[Shape], steps: Sequence[Step]) -> Value:
    """Return what steps make of tensors of these shapes.

    Raises:
        ValueError: If the steps do not fit the shapes.
    """
    return _made([_identity(number, shape) for number, shape in enumerate(shapes)], steps)


def _identity(number: int, shape: Shape) -> Value:
    window = tuple((0, size) for size in shape)
    return shape, (Part(number, window, tuple(range(len(shape))), (0,) * len(shape)),)


def viewed(source: TensorInfo, steps: Sequence[Step], *, name: str) -> TensorInfo:
    """Return a stored tensor as it looks after steps, each a `Transpose` or an `Unstack`: other strides, and no byte moves.

    Args:
        source: A tensor of whole bytes; a packed one can be transposed alone.
        steps: What happens to it.
        name: What to call the result.

    Raises:
        ValueError: If the steps do not fit the tensor.

    Example:
        >>> kernel = TensorInfo(name="kernel", dtype="int8", shape=(2, 3), file="a", offset=0, nbytes=6)
        >>> weight = viewed(kernel, [Transpose((1, 0))], name="weight")
        >>> weight.shape, weight.strides
        ((3, 2), (1, 3))
    """
    if source.encoding is not None:
        raise ValueError("what a library finds is seen as it is")
    shape, offset, itemsize = source.shape, source.offset, _bits_of(1, source) // 8
    strides = source.strides or tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    for step in steps:
        if isinstance(step, Transpose) and sorted(step.axes) == list(range(len(shape))):
            shape, strides = (tuple(sizes[axis] for axis in step.axes) for sizes in (shape, strides))
        elif (
            source.packing is None
            and isinstance(step, Unstack)
            and step.axis < len(shape)
            and step.index < shape[step.axis]
        ):
            offset += step.index * strides[step.axis] * itemsize
            shape, strides = _without(shape, step.axis), _without(strides, step.axis)
        else:
            raise ValueError(f"{step} does not fit {list(shape)}")
    nbytes = source.nbytes if source.packing else math.prod(shape) * itemsize
    kept = None if row_by_row(shape, strides) else strides
    return dataclasses.replace(source, name=name, shape=shape, offset=offset, nbytes=nbytes, strides=kept)


def block_of(source: TensorInfo) -> TensorInfo:
    """Return the block of rows that a stored tensor is a part of; the windows of a recipe's parts are its.

    Of a tensor that lies row by row it is the tensor. Of a view it may reach beyond the end of the file, behind the
    last of the view's own numbers.
    """
    if source.strides is None:
        return source
    sizes = _view(source, source.strides).sizes
    bits = _bits_of(math.prod(sizes), source)
    return dataclasses.replace(source, shape=sizes, nbytes=bits // 8, strides=None)


def _view(source: TensorInfo, strides: Shape) -> View:
    view = View.of(source.shape, strides)
    if view is None:
        raise ValueError(f"the rows of {source.name} lie over one another")
    return view


def _stored(number: int, source: TensorInfo) -> Value:
    """Return a source as parts of its block."""
    if source.strides is None:
        return _identity(number, source.shape)
    view = _view(source, source.strides)
    axes = tuple(view.axes.index(a) if a in view.axes else None for a in range(len(source.shape)))
    found = view.windows(source.shape, source.strides)
    return source.shape, tuple(Part(number, window, axes, at) for window, at in found)


def _made(values: list[Value], steps: Sequence[Step]) -> Value:
    for step in steps:
        if isinstance(step, Concatenate):
            values = [_concatenated(values, step.axis)]
        elif isinstance(step, Stack):
            values = [_concatenated([_with_axis(value, step.axis) for value in values], step.axis)]
        elif not isinstance(step, Cast):
            values = [_one(value, step) for value in values]
    if len(values) != 1:
        raise ValueError(f"{len(values)} tensors are left, and nothing puts them together")
    return values[0]


def _one(value: Value, step: Transpose | Slice | Unstack) -> Value:
    if isinstance(step, Transpose):
        return _transposed(value, step.axes)
    if isinstance(step, Slice):
        return _sliced(value, step.axis, step.start, step.stop)
    shape, found = _sliced(value, step.axis, step.index, step.index + 1)
    return _without(shape, step.axis), tuple(
        dataclasses.replace(part, axes=_without(part.axes, step.axis), at=_without(part.at, step.axis))
        for part in found
    )


def _transposed(value: Value, axes: Sequence[int]) -> Value:
    shape, found = value
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"{tuple(axes)} are not the axes of {list(shape)}")
    return tuple(shape[axis] for axis in axes), tuple(
        dataclasses.replace(
            part, axes=tuple(part.axes[axis] for axis in axes), at=tuple(part.at[axis] for axis in axes)
        )
        for part in found
    )


def _sliced(value: Value, axis: int, start: int, stop: int) -> Value:
    shape, found = value
    if not (0 <= axis < len(shape) and 0 <= start <= stop <= shape[axis]):
        raise ValueError(f"{start} to {stop} of axis {axis} are not in {list(shape)}")
    kept = []
    for part in found:
        low, high = max(start, part.at[axis]), min(stop, part.at[axis] + part.extent[axis])
        if low >= high and stop > start:
            continue
        window, own = list(part.window), part.axes[axis]
        if own is not None:
            first = window[own][0] + low - part.at[axis]
            window[own] = (first, first + high - low)
        at = (*part.at[:axis], low - start, *part.at[axis + 1 :])
        kept.append(dataclasses.replace(part, window=tuple(window), at=at))
    return (*shape[:axis], stop - start, *shape[axis + 1 :]), tuple(kept)


def _with_axis(value: Value, axis: int) -> Value:
    shape, found = value
    if not 0 <= axis <= len(shape):
        raise ValueError(f"there is no axis {axis} beside {list(shape)}")
    return (*shape[:axis], 1, *shape[axis:]), tuple(
        dataclasses.replace(
            part,
            axes=(*part.axes[:axis], None, *part.axes[axis:]),
            at=(*part.at[:axis], 0, *part.at[axis:]),
        )
        for part in found
    )


def _concatenated(values: Sequence[Value], axis: int) -> Value:
    first = values[0][0]
    others = {_without(shape, axis) for shape, _ in values}
    if not 0 <= axis < len(first) or len(others) != 1:
        raise ValueError(f"{[list(shape) for shape, _ in values]} do not lie along axis {axis}")
    found: list[Part] = []
    size = 0
    for shape, own in values:
        found += (
            dataclasses.replace(part, at=(*part.at[:axis], part.at[axis] + size, *part.at[axis + 1 :]))
            for part in own
        )
        size += shape[axis]
    return (*first[:axis], size, *first[axis + 1 :]), tuple(found)


def _without(items: tuple[T, ...], axis: int) -> tuple[T, ...]:
    return (*items[:axis], *items[axis + 1 :])
