"""The index of a checkpoint: where each tensor lies. Pure records, no bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One stored tensor.

    Attributes:
        name: The name under which it is stored.
        dtype: Canonical dtype name.
        shape: Sizes of its axes; `()` for a scalar.
        file: Name of its file in the snapshot.
        offset: Bytes from the start of the file to its first byte.
        nbytes: Its size in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        """Bytes from the start of the file to the first byte after it."""
        return self.offset + self.nbytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorIndex:
    """All tensors of a checkpoint, in file and offset order.

    Attributes:
        tensors: Name -> where it lies.
        aliases: Name -> the stored tensor that holds the same parameter, where the files note it.
        metadata: Texts that the files hold beside tensors, without the aliases and without what our own saves note.
        files: Names of the files that hold the tensors, in order.
    """

    tensors: Mapping[str, TensorInfo]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(info.nbytes for info in self.tensors.values())

    def dtypes(self) -> dict[str, int]:
        """Return dtype -> bytes stored in it, the largest first."""
        sizes: dict[str, int] = {}
        for info in self.tensors.values():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))
