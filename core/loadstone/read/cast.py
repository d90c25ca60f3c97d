"""Casting between float dtypes, as numpy and ml_dtypes do it: in one pass, and without holding the interpreter."""

from __future__ import annotations

import numpy as np

from loadstone.dtypes import to_numpy
from loadstone.read.memory import Bytes


def cast(source: Bytes, source_dtype: str, destination: Bytes, destination_dtype: str) -> None:
    """Cast bytes of one float dtype into bytes of another, rounding to nearest, ties to even.

    Args:
        source: One-dimensional, its length a multiple of the source's element size; its address may be any.
        source_dtype: Canonical dtype of the source, one of `dtypes.CASTABLE`.
        destination: One-dimensional, with room for as many elements.
        destination_dtype: Canonical dtype of the destination, likewise.
    """
    # What is too large becomes an infinity, and a signalling not-a-number a quiet one: no news to anybody.
    with np.errstate(over="ignore", invalid="ignore"):
        destination.view(to_numpy(destination_dtype))[:] = source.view(to_numpy(source_dtype))
