"""Making numbers of blocks, in the engine's threads: gguf-py's own code, on as many blocks as a processor's cache holds.

On the rows of a whole model it takes ten times as long.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Numbers = np.ndarray[Any, np.dtype[np.float32]]

AT_ONCE = 1 << 15
"""Numbers that are made at once of a block as large as a head."""


def unpack(blocks: Bytes, numbers: Numbers, kind: int) -> None:
    """Make numbers of blocks.

    Args:
        blocks: Whole blocks, one after the other.
        numbers: As many float32 numbers as they hold, to fill.
        kind: The type of the blocks, as it stands in a file.
    """
    import gguf

    numbers[...] = gguf.dequantize(blocks, gguf.GGMLQuantizationType(kind))


def unpack_halves(heads: Bytes, numbers: Numbers, kind: int, rows: int, row: int) -> None:
    """Make numbers of whole heads whose rows lie in pairs, one of each half: the halves come one after the other.

    Args:
        heads: Whole heads.
        numbers: As many float32 numbers as they hold, to fill.
        kind: The type of the blocks.
        rows: Of a head.
        row: Bytes of a row.
    """
    pairs = heads.reshape(-1, rows // 2, 2, row)
    ordered = pairs.swapaxes(1, 2).reshape(-1, row)  # blocks end with rows, and so move as bytes
    lines = numbers.reshape(len(ordered), -1)
    step = max(1, AT_ONCE // lines.shape[1])
    for start in range(0, len(ordered), step):
        unpack(ordered[start : start + step].reshape(-1), lines[start : start + step].reshape(-1), kind)


def unpack_less_one(blocks: Bytes, numbers: Numbers, kind: int) -> None:
    """Make numbers of blocks, each one less than what is stored: llama.cpp adds the one that Gemma's norms add.

    Args:
        blocks: Whole blocks.
        numbers: As many float32 numbers as they hold, to fill.
        kind: The type of the blocks.
    """
    unpack(blocks, numbers, kind)
    numbers -= np.float32(1)


@functools.cache
def is_known(kind: int) -> bool:
    """Return whether gguf-py makes numbers of a type; the tables that it needs are made, once for all threads."""
    import gguf

    try:
        number = gguf.GGMLQuantizationType(kind)  # which an older one may not have
        with np.errstate(all="ignore"):
            gguf.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[number][1], np.uint8), number)
    except (NotImplementedError, ValueError):
        return False
    return True
