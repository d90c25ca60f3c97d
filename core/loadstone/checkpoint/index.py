"""The index of a checkpoint: where each tensor lies. Pure records, no bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from loadstone.checkpoint.strides import span
from loadstone.dtypes import nbytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How numbers lie that are no array of a dtype: in blocks, from whose bytes a function makes float32 numbers.

    Attributes:
        name: What inspections and reports call it, e.g. "Q4_1"; a dtype where the numbers are its, in another order.
        numbers: How many numbers a block has; they lie along the last axis, or are several whole rows.
        nbytes: Bytes of a block.
        unpack: "module:function". It is called in the engine's threads with the bytes of some blocks, float32 numbers to
            fill, and `arguments`.
        arguments: What the function is told beside the blocks.
    """

    name: str
    numbers: int
    nbytes: int
    unpack: str
    arguments: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.numbers < 1 or self.nbytes < 1:
            raise ValueError(f"a block of {self.numbers} numbers in {self.nbytes} bytes")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How numbers lie that have no place in a file, as in compressed chunks: a library finds them, a window at a time.

    Attributes:
        read: "module:function". It is called in the engine's threads with the path of the tensor's file, a window (for each
            axis the first index and the one after the last), an array to fill of the window's shape and the stored dtype, and
            `arguments`.
        axis: Along which a large tensor is read in several windows; of no meaning to a scalar.
        together: How many of that axis are stored together, and read together.
        arguments: What the function is told beside the window.
    """

    read: str
    axis: int = 0
    together: int = 1
    arguments: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        if self.together < 1 or self.axis < 0:
            raise ValueError(f"{self.together} of axis {self.axis} are stored together")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One stored tensor.

    Attributes:
        name: The name under which it is stored.
        dtype: Canonical dtype name; of packed numbers that which they are taken for, float32 where they are quantised.
        shape: Sizes of its axes; `()` for a scalar.
        file: Name of its file in the snapshot.
        offset: Bytes from the start of the file to its first byte.
        nbytes: Its size in bytes.
        strides: For each axis, how many numbers lie from one to the next, where they do not lie row by row; else None.
        pieces: What it is made of, one after the other along the first axis, where it lies in several places; `file` and
            `offset` are then the first one's.
        chunks: Offset and bytes of each part, where its bytes lie in one file and not in one stretch; else None. `offset` is then
            of the first.
        packing: How its numbers are packed; None where they lie in its dtype.
        encoding: How its numbers are found where no offset tells; `file` is then what describes it, `offset` is 0 and `nbytes` is
            that of its shape and dtype. Else None.
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
    packing: Packing | None = None
    encoding: Encoding | None = None

    @property
    def kind(self) -> str:
        """What its numbers are stored as, for people: its dtype, or the name of its packing."""
        return self.dtype if self.packing is None else self.packing.name

    @property
    def fills(self) -> bool:
        """Whether its bytes are those of its shape, in its dtype or in whole blocks that end where a row does."""
        if self.packing is None:
            return self.nbytes == nbytes(self.dtype, self.shape)
        number, block = math.prod(self.shape), self.packing.numbers
        row = self.shape[-1] if self.shape else 1
        whole = not (number % block or (row % block and block % row)) if row else True
        return whole and self.nbytes == number // block * self.packing.nbytes

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
        """Return dtype, or packing, -> bytes stored in it, the largest first."""
        sizes: dict[str, int] = {}
        for info in self.tensors.values():
            sizes[info.kind] = sizes.get(info.kind, 0) + info.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))
