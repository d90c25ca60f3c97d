"""The index of a checkpoint: where each tensor lies. Pure records, no bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from loadstone.checkpoint.strides import span


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
        strides: For each axis, how many numbers lie from one to the next, where they do not lie row by row; else None.
        pieces: What it is made of, one after the other along the first axis, where it lies in several places; `file` and
            `offset` are then the first one's.
        chunks: Offset and bytes of each part, where its bytes lie in one file and not in one stretch; else None. `offset` is then
            of the first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int
    strides: tuple[int, ...] | None = None
    pieces: tuple[TensorInfo, ...] = ()
    chunks: tuple[tuple[int, int], ...] | None = None

    def stretches(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield where bytes of it really lie, offset and length of each part.

        Args:
            offset: Of the first, counted from the start of the file as if all lay in one stretch.
            size: How many.
        """
        if self.chunks is None:
            yield offset, size
            return
        before, stop = self.chunks[0][0], offset + size
        for start, length in self.chunks:
            low, high = max(offset, before), min(stop, before + length)
            if low < high:
                yield start + low - before, high - low
            before += length

    @property
    def end(self) -> int:
        """Bytes from the start of the file to the first byte after it, or after its first piece."""
        if self.pieces:
            return self.pieces[0].end
        if self.chunks is not None:
            return sum(self.chunks[-1])
        if self.strides is None or not self.nbytes:
            return self.offset + self.nbytes
        return self.offset + span(self.shape, self.strides) * self.nbytes // math.prod(self.shape)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorIndex:
    """All tensors of a checkpoint, in file and offset order.

    Attributes:
        tensors: Name -> where it lies.
        aliases: Name -> the stored tensor that holds the same parameter, where the files note it.
        metadata: Texts that the files hold beside tensors, without the aliases and without what our own saves note.
        files: Names of the files that hold the tensors, in order.
        notes: What is to be told of the files, in sentences.
        dialect: Whose names and axes the tensors have where those are another framework's than PyTorch's: "tensorflow", "flax".
        absent: Name -> its file, of the tensors whose files are not here, though elsewhere they are: all that is known.
    """

    tensors: Mapping[str, TensorInfo]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dialect: str = ""
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all tensors of the checkpoint, those of absent files last."""
        return [*self.tensors, *self.absent]

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(info.nbytes for info in self.tensors.values())

    def overlapping(self) -> set[str]:
        """Return the tensors of whose bytes another one has some too."""
        found: set[str] = set()
        last: TensorInfo | None = None
        for info in sorted(self.tensors.values(), key=lambda info: (info.file, info.offset)):
            if last is not None and last.file == info.file and info.offset < last.end and info.nbytes:
                found |= {last.name, info.name}
            if last is None or last.file != info.file or info.end > last.end:
                last = info
        return found

    def dtypes(self) -> dict[str, int]:
        """Return dtype -> bytes stored in it, the largest first."""
        sizes: dict[str, int] = {}
        for info in self.tensors.values():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + info.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))
