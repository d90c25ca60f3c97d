"""Casts, bit for bit: against arithmetic on the bits where a 16-bit dtype widens or bfloat16 is rounded to, else numpy.

Every value of the 16-bit dtypes is cast, and of the wide ones what is hard: ties, what lies beside them, any bits.
"""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstone.dtypes import CASTABLE, to_numpy
from loadstone.read.cast import cast

PAIRS = sorted((one, other) for one, other in itertools.product(CASTABLE, repeat=2) if one != other)
EVERY_16_BITS = np.arange(1 << 16, dtype=np.uint16)


def cast_bits(bits: np.ndarray, source: str, target: str) -> np.ndarray:
    """Return the bits of what `bits` are when cast; a warning is an error."""
    found = np.empty(bits.size * to_numpy(target).itemsize, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cast(bits.view(np.uint8), source, found, target)
    return found.view(f"u{to_numpy(target).itemsize}")


def widened(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Return the values of bits in float64, in which every other dtype's are exact."""
    if dtype == "bfloat16":
        bits, dtype = bits.astype(np.uint32) << 16, "float32"
    return bits.view(dtype).astype(np.float64)


def expected_bits(bits: np.ndarray, source: str, target: str) -> np.ndarray:
    """Return what a cast should give; of a not-a-number nothing is expected but that it stays one."""
    values = widened(bits, source)
    if target != "bfloat16":
        return values.astype(target).view(f"u{to_numpy(target).itemsize}")
    wide = values.astype(np.float32).view(np.uint32)
    return ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)


def assert_cast(bits: np.ndarray, source: str, target: str) -> None:
    with np.errstate(all="ignore"):
        expected, number = expected_bits(bits, source, target), ~np.isnan(widened(bits, source))
        found = cast_bits(bits, source, target)
        assert np.isnan(widened(found, target)[~number]).all()
    np.testing.assert_array_equal(found[number], expected[number])


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] in ("bfloat16", "float16")])
def test_every_value_of_a_16_bit_dtype(source, target):
    assert_cast(EVERY_16_BITS, source, target)


def test_widening_keeps_every_bit_also_of_a_nan():
    found = cast_bits(EVERY_16_BITS, "bfloat16", "float32")
    np.testing.assert_array_equal(found, EVERY_16_BITS.astype(np.uint32) << 16)


@pytest.mark.parametrize("target", ["bfloat16", "float16"])
def test_rounding_to_nearest_and_ties_to_even(target):
    with np.errstate(all="ignore"):
        values = widened(EVERY_16_BITS, target)
        ties = ((values[:-1] + values[1:]) / 2).astype(np.float32)
        beside = [np.nextafter(ties, np.float32(limit)) for limit in (-np.inf, np.inf)]
    assert_cast(np.concatenate([ties, *beside]).view(np.uint32), "float32", target)


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] in ("float32", "float64")])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_bits(source, target, seed):
    size = to_numpy(source).itemsize
    bits = np.random.default_rng(seed).integers(0, 256, 512 * size, np.uint8).view(f"u{size}")
    assert_cast(bits, source, target)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("elements", [0, 1, 7])
def test_bytes_may_lie_at_any_address(source, target, elements):
    wide, narrow = to_numpy(source).itemsize, to_numpy(target).itemsize
    values = np.linspace(-2, 2, elements).astype(to_numpy(source))
    shifted, found = (
        np.empty(elements * wide + 1, np.uint8)[1:],
        np.empty(elements * narrow + 1, np.uint8)[1:],
    )
    shifted[:] = values.view(np.uint8)
    cast(shifted, source, found, target)
    assert found.tobytes() == values.astype(to_numpy(target)).tobytes()
