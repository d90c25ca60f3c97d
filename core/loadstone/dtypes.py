"""The one table of tensor dtypes: canonical name, safetensors code, size, kind.

Everywhere in loadstone a dtype is its canonical name, a plain string such as "bfloat16". Backends translate
it to their own objects at their own border; numpy appears only in `to_numpy`, where bytes are touched.

Source of the codes: the safetensors format, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from loadstone.errors import ArgumentError, nearest

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DType:
    """One dtype. `bits` is the size of one element; `kind` is "float", "int", "bool" or "complex"."""

    name: str
    code: str
    bits: int
    kind: str

    @property
    def itemsize(self) -> int:
        """Bytes of one element. Raises for the packed dtypes of less than a byte."""
        if self.bits % 8:
            raise ArgumentError(f"dtype {self.name} packs several elements into a byte")
        return self.bits // 8


def _table(*rows: tuple[str, str, int, str]) -> dict[str, DType]:
    return {name: DType(name=name, code=code, bits=bits, kind=kind) for name, code, bits, kind in rows}


DTYPES = _table(
    ("float64", "F64", 64, "float"),
    ("float32", "F32", 32, "float"),
    ("float16", "F16", 16, "float"),
    ("bfloat16", "BF16", 16, "float"),
    ("float8_e4m3fn", "F8_E4M3", 8, "float"),
    ("float8_e5m2", "F8_E5M2", 8, "float"),
    ("float8_e8m0fnu", "F8_E8M0", 8, "float"),
    ("float6_e2m3fn", "F6_E2M3", 6, "float"),
    ("float6_e3m2fn", "F6_E3M2", 6, "float"),
    ("float4_e2m1fn", "F4", 4, "float"),
    ("complex64", "C64", 64, "complex"),
    ("int64", "I64", 64, "int"),
    ("int32", "I32", 32, "int"),
    ("int16", "I16", 16, "int"),
    ("int8", "I8", 8, "int"),
    ("uint64", "U64", 64, "int"),
    ("uint32", "U32", 32, "int"),
    ("uint16", "U16", 16, "int"),
    ("uint8", "U8", 8, "int"),
    ("bool", "BOOL", 8, "bool"),
)
BY_CODE = {dtype.code: dtype for dtype in DTYPES.values()}

# Dtypes that loadstone casts between. Everything narrower carries a scale that a cast would drop.
CASTABLE = frozenset({"float64", "float32", "float16", "bfloat16"})

_ALIASES = {"half": "float16", "float": "float32", "double": "float64", "fp16": "float16", "fp32": "float32"}
_ALIASES |= {"bf16": "bfloat16", "bool_": "bool", "long": "int64", "int": "int32"}


def canonical(dtype: object) -> str:
    """Return the canonical name of a dtype given by name or as any framework's object.

    Args:
        dtype: "bfloat16", "bf16", "torch.bfloat16", `torch.bfloat16`, `jnp.bfloat16`, `tf.bfloat16`,
            `numpy.dtype("float32")`, `numpy.float32`, ...

    Raises:
        ArgumentError: If nothing known is named.

    Example:
        >>> canonical("torch.bfloat16"), canonical("half")
        ('bfloat16', 'float16')
    """
    name = dtype if isinstance(dtype, str) else _name_of(dtype)
    name = name.removeprefix("torch.").removeprefix("jnp.").removeprefix("tf.")
    name = _ALIASES.get(name, name)
    if name not in DTYPES:
        raise ArgumentError(
            f"unknown dtype {dtype!r}",
            expected='"auto", "stored", a name such as "bfloat16", or a framework\'s dtype',
            hint=nearest(name, DTYPES),
        )
    return name


def _name_of(dtype: object) -> str:
    # numpy and TensorFlow dtypes have `.name`, numpy and JAX scalar types `.__name__`, torch only a repr.
    for attribute in ("name", "__name__"):
        value = getattr(dtype, attribute, None)
        if isinstance(value, str):
            return value
    return str(dtype)


def nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a dense tensor, 0 for an empty one; packed dtypes round up to a byte."""
    bits = DTYPES[dtype].bits
    for size in shape:
        bits *= size
    return (bits + 7) // 8


@functools.cache
def to_numpy(dtype: str) -> np.dtype:
    """Return the numpy dtype of a canonical name; ml_dtypes supplies what numpy lacks."""
    import ml_dtypes
    import numpy as np

    scalar = getattr(ml_dtypes, dtype, None)
    return np.dtype(scalar if scalar is not None else dtype)
