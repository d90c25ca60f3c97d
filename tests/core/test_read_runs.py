"""Runs of bytes against numpy slicing: any block of any tensor, in pieces of any size."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadstone.read.runs import GAP, contiguous, runs

SHAPES = st.lists(st.integers(1, 6), max_size=4).map(tuple)


@st.composite
def blocks(draw):
    """Draw the sizes of a tensor and a block of it."""
    shape = draw(SHAPES)
    window = []
    for size in shape:
        start = draw(st.integers(0, size))
        window.append((start, draw(st.integers(start, size))))
    return shape, tuple(window)


def bytes_of(shape, itemsize):
    """Return a tensor's bytes, and it as an array of elements that tell themselves apart."""
    data = np.random.default_rng(0).integers(0, 256, math.prod(shape) * itemsize, np.uint8)
    return data, data.view(f"u{itemsize}").reshape(shape)


def cut(array, window):
    return array[(*(slice(*bounds) for bounds in window), ...)]


@given(block=blocks(), itemsize=st.sampled_from([1, 2, 4, 8]), limit=st.sampled_from([1, 8, 16, 64, 1 << 20]))
def test_the_runs_of_a_block_are_what_numpy_cuts_out(block, itemsize, limit):
    shape, window = block
    data, array = bytes_of(shape, itemsize)
    wanted = cut(array, window)
    found = np.zeros(wanted.shape, wanted.dtype)
    at = -1
    for part in runs(shape, window, itemsize, limit=limit):
        assert part.offset > at  # in the order of the file
        at = part.offset
        assert part.span <= max(limit, itemsize) or not part.merged
        assert part.length <= max(limit, itemsize)
        starts = range(part.offset, part.offset + part.count * part.stride, part.stride)
        read = np.concatenate([data[start : start + part.length] for start in starts])
        region = found[(*part.within, ...)]
        assert region.nbytes == part.nbytes
        region[...] = read.view(wanted.dtype).reshape(region.shape)
    assert found.tobytes() == wanted.tobytes()


@given(block=blocks(), itemsize=st.sampled_from([1, 2, 8]))
def test_a_block_in_one_piece_is_known_as_one(block, itemsize):
    shape, window = block
    data, array = bytes_of(shape, itemsize)
    found = contiguous(shape, window, itemsize * 8)
    wanted = cut(array, window)
    if found is None:
        assert not wanted.flags.c_contiguous
    else:
        offset, size = found
        assert data[offset : offset + size].tobytes() == wanted.tobytes()


def test_packed_numbers_are_cut_at_bytes_alone():
    assert contiguous((4, 6), ((1, 2), (0, 6)), 4) == (3, 3)
    assert contiguous((4, 3), ((1, 2), (0, 3)), 4) is None


def test_near_runs_are_read_at_once_and_far_ones_alone():
    near, far = (next(runs((3, width), ((0, 3), (0, 8)), 1, limit=1 << 20)) for width in (8 + GAP, 9 + GAP))
    assert (near.merged, near.count, near.span) == (True, 3, 2 * (8 + GAP) + 8)
    assert (far.merged, far.count, far.nbytes) == (False, 3, 24)
