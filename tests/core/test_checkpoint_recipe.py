"""Recipes against numpy: what the parts of steps put together is what numpy makes of the same steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstone.checkpoint.recipe import (
    Cast,
    Concatenate,
    Slice,
    Stack,
    Transpose,
    Unstack,
    result,
)
from loadstone.read.steps import assemble, region


def by_numpy(arrays, steps):
    for step in steps:
        match step:
            case Concatenate(axis=axis):
                arrays = [np.concatenate(arrays, axis)]
            case Stack(axis=axis):
                arrays = [np.stack(arrays, axis)]
            case Transpose(axes=axes):
                arrays = [array.transpose(axes) for array in arrays]
            case Slice(axis=axis, start=start, stop=stop):
                arrays = [array[(slice(None),) * axis + (slice(start, stop),)] for array in arrays]
            case Unstack(axis=axis, index=index):
                arrays = [array.take(index, axis) for array in arrays]
    return arrays


def by_parts(arrays, steps, shape):
    made, moved = np.full(shape, -1), np.zeros(shape, int)
    _, found = result([array.shape for array in arrays], steps)
    assemble(made, found, arrays.__getitem__)
    for part in found:
        region(moved, part)[...] += 1
    assert (moved == 1).all()  # each number is moved once
    return made


@st.composite
def stories(draw):
    """Draw tensors and steps that fit them and leave one."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    number = draw(st.integers(1, 4))
    arrays = [np.arange(np.prod(shape)).reshape(shape) + 1000 * i for i in range(number)]
    steps = []
    joined = False
    for _ in range(draw(st.integers(0, 4))):
        now = by_numpy(arrays, steps)[0]
        kinds = ["cast", "slice", "transpose"] + ["unstack"] * (now.ndim > 1) + ["join"] * (not joined)
        kind, axis = draw(st.sampled_from(kinds)), draw(st.integers(0, now.ndim - 1))
        if kind == "slice":
            start = draw(st.integers(0, now.shape[axis] - 1))
            steps.append(Slice(axis, start, draw(st.integers(start + 1, now.shape[axis]))))
        elif kind == "unstack":
            steps.append(Unstack(axis, draw(st.integers(0, now.shape[axis] - 1))))
        elif kind == "transpose":
            steps.append(Transpose(tuple(draw(st.permutations(range(now.ndim))))))
        elif kind == "join":
            joined = True
            steps.append(draw(st.sampled_from([Stack(axis), Concatenate(axis)])))
        else:
            steps.append(Cast("bfloat16"))
    if not joined and number > 1:
        steps.append(Stack(0))
    return arrays, steps


@given(stories())
def test_parts_are_what_numpy_makes(story):
    arrays, steps = story
    (expected,) = by_numpy(arrays, steps)
    np.testing.assert_array_equal(by_parts(arrays, steps, expected.shape), expected)


@pytest.mark.parametrize(
    ("shapes", "steps"),
    [
        ([(2, 3), (2, 3)], ()),
        ([(2, 3), (3, 3)], (Stack(0),)),
        ([(2, 3), (2, 4)], (Concatenate(0),)),
        ([(2, 3)], (Slice(0, 1, 3),)),
        ([(2, 3)], (Transpose((0, 0)),)),
        ([(2, 3)], (Unstack(2, 0),)),
    ],
)
def test_steps_that_do_not_fit_are_refused(shapes, steps):
    with pytest.raises(ValueError, match=r"."):
        result(shapes, steps)
