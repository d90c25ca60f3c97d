"""A tensor in host memory, before a framework has seen it or after it gave it back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from loadstone.dtypes import canonical, to_numpy

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostTensor:
    """Bytes with a dtype and a shape, C-contiguous.

    Attributes:
        name: The parameter it is for.
        dtype: Canonical dtype.
        shape: Sizes of its axes.
        data: Its bytes, a one-dimensional uint8 array that owns or keeps alive its memory.
        mapped: Whether that memory is a private mapping of the file: then nothing has been read yet.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray[Any, np.dtype[np.uint8]]
    mapped: bool = False

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.data.nbytes

    @property
    def address(self) -> int:
        """Where its first byte lies in memory."""
        return int(self.data.ctypes.data)

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return it as an array of its dtype and shape, sharing its memory."""
        return self.data.view(to_numpy(self.dtype)).reshape(self.shape)


def from_numpy(name: str, value: Any) -> HostTensor:
    """Return what numpy can read as an array, under a name: its own memory where that lies in one piece."""
    import numpy as np

    array = np.asarray(value, order="C")
    data = array.reshape(-1).view(np.uint8)
    return HostTensor(name=name, dtype=canonical(array.dtype), shape=array.shape, data=data)
