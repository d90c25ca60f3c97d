"""Memory that tensors are read into: where it starts, and when the system supplies it."""

import sys

import numpy as np
import pytest

from loadstone.read.memory import ALIGNMENT, OWN_PAGES, aligned_empty, populate
from tests.benchmarks.memory import anonymous

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 63, OWN_PAGES - 1, OWN_PAGES, OWN_PAGES + 1, 5 * OWN_PAGES + 7])
def test_memory_is_aligned_writable_and_as_long_as_asked(size):
    memory = aligned_empty(size)
    assert (memory.dtype, memory.shape) == (np.uint8, (size,))
    assert memory.ctypes.data % ALIGNMENT == 0 or not size
    memory[:] = 7
    assert (memory == 7).all()


@pytest.mark.parametrize("part", [slice(None), slice(0, 100), slice(4096, 3 * 4096 + 5), slice(5, MIB)])
@pytest.mark.parametrize("size", [3 * 4096, 3 * OWN_PAGES + 5])
def test_populating_changes_no_byte(size, part):
    memory = aligned_empty(size)
    memory[:] = np.arange(size) % 251
    populate(memory[part])
    assert (memory == np.arange(size) % 251).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems supply each page when it is written")
def test_nothing_lies_there_until_it_is_populated():
    before = anonymous()
    memory = aligned_empty(256 * MIB)
    assert anonymous() - before < 16 * MIB
    populate(memory[: 128 * MIB])
    assert 112 * MIB < anonymous() - before < 144 * MIB
