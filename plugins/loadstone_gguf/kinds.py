"""The types of GGUF's tensors: how many numbers a block has, and in how many bytes.

They stand here and not only in gguf-py, so that a file is described without it; the tests hold the two together.

Source: https://github.com/ggml-org/ggml/blob/master/src/ggml.c
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One type.

    Attributes:
        number: What stands for it in a file.
        name: Its name in ggml.
        numbers: Numbers of a block.
        nbytes: Bytes of a block.
        dtype: loadstone's name, where the numbers lie as an array of it; "" for those that are quantised.
    """

    number: int
    name: str
    numbers: int
    nbytes: int
    dtype: str = ""


_ALL = (
    Kind(0, "F32", 1, 4, "float32"),
    Kind(1, "F16", 1, 2, "float16"),
    Kind(2, "Q4_0", 32, 18),
    Kind(3, "Q4_1", 32, 20),
    Kind(6, "Q5_0", 32, 22),
    Kind(7, "Q5_1", 32, 24),
    Kind(8, "Q8_0", 32, 34),
    Kind(9, "Q8_1", 32, 40),
    Kind(10, "Q2_K", 256, 84),
    Kind(11, "Q3_K", 256, 110),
    Kind(12, "Q4_K", 256, 144),
    Kind(13, "Q5_K", 256, 176),
    Kind(14, "Q6_K", 256, 210),
    Kind(15, "Q8_K", 256, 292),
    Kind(16, "IQ2_XXS", 256, 66),
    Kind(17, "IQ2_XS", 256, 74),
    Kind(18, "IQ3_XXS", 256, 98),
    Kind(19, "IQ1_S", 256, 50),
    Kind(20, "IQ4_NL", 32, 18),
    Kind(21, "IQ3_S", 256, 110),
    Kind(22, "IQ2_S", 256, 82),
    Kind(23, "IQ4_XS", 256, 136),
    Kind(24, "I8", 1, 1, "int8"),
    Kind(25, "I16", 1, 2, "int16"),
    Kind(26, "I32", 1, 4, "int32"),
    Kind(27, "I64", 1, 8, "int64"),
    Kind(28, "F64", 1, 8, "float64"),
    Kind(29, "IQ1_M", 256, 56),
    Kind(30, "BF16", 1, 2, "bfloat16"),
    Kind(34, "TQ1_0", 256, 54),
    Kind(35, "TQ2_0", 256, 66),
    Kind(39, "MXFP4", 32, 17),
    Kind(40, "NVFP4", 64, 36),
    Kind(41, "Q1_0", 128, 18),
)
KINDS = {kind.number: kind for kind in _ALL}
"""Number in a file -> the type."""
