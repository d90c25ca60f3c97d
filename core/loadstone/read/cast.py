"""Casting between float dtypes, a slice at a time, in plain numpy: fast, and without holding the interpreter.

bfloat16 is the upper half of float32, so widening is a shift, and narrowing rounds to nearest even on the bits
(https://en.wikipedia.org/wiki/Bfloat16_floating-point_format). ml_dtypes does the same one element at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadstone.dtypes import DTYPES, to_numpy

Array = np.ndarray[Any, Any]

# Elements that are cast at once, so that what is looked at twice stays in the processor's cache: a third faster.
BLOCK = 1 << 17


def cast(source: Array, source_dtype: str, target: Array, target_dtype: str) -> None:
    """Cast bytes of one float dtype into bytes of another.

    Args:
        source: One-dimensional uint8 array, its length a multiple of the source's element size.
        source_dtype: Canonical dtype of the source, one of `dtypes.CASTABLE`.
        target: One-dimensional uint8 array with room for as many elements.
        target_dtype: Canonical dtype of the target, likewise.
    """
    elements = len(source) // DTYPES[source_dtype].itemsize
    if "bfloat16" not in (source_dtype, target_dtype):
        with np.errstate(over="ignore"):
            target.view(to_numpy(target_dtype))[:] = source.view(to_numpy(source_dtype))
        return
    if source_dtype == "bfloat16" and target_dtype == "float32":
        _widen(source.view(np.uint16), target.view(np.uint32))
        return
    read, write = _bits(source, source_dtype), _bits(target, target_dtype)
    buffer = np.empty(min(BLOCK, elements), np.float32)
    for start in range(0, elements, BLOCK):
        wide = buffer[: min(BLOCK, elements - start)]
        piece = slice(start, start + len(wide))
        if source_dtype == "bfloat16":
            _widen(read[piece], wide.view(np.uint32))
        else:
            wide[:] = read[piece]
        if target_dtype == "bfloat16":
            _narrow(wide, write[piece])
        else:
            with np.errstate(over="ignore"):
                write[piece] = wide


def _bits(data: Array, dtype: str) -> Array:
    return data.view(np.uint16 if dtype == "bfloat16" else to_numpy(dtype))


def _widen(narrow: Array, wide: Array) -> None:
    for start in range(0, len(wide), BLOCK):
        piece = wide[start : start + BLOCK]
        piece[:] = narrow[start : start + BLOCK]
        np.left_shift(piece, 16, out=piece)


def _narrow(wide: Array, narrow: Array) -> None:
    bits = wide.view(np.uint32)
    rounded = (bits >> 16) & 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    narrow[:] = rounded
    nan = np.isnan(wide)
    if nan.any():  # the carry could have turned it into an infinity
        narrow[nan] = 0x7FC0
