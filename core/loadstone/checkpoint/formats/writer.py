"""What writing a format is asked for: the names of its files, what it cannot hold, and the bytes of each file in order."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from loadstone.checkpoint.formats.names import BLANK
from loadstone.dtypes import DTYPES, nbytes
from loadstone.errors import BackendError

if TYPE_CHECKING:
    import numpy as np

    from loadstone.config import Config

ALIGNMENT = 64
"""Bytes to which frameworks want tensors aligned before they alias them."""

BLOCK = 8 * 1024 * 1024
"""Bytes of a tensor that are handed on at a time."""

NOTES = tuple(BLANK)
"""Keys of a checkpoint's metadata in which a save notes itself: none of another file's."""

Block = bytes | memoryview


class Held(Protocol):
    """A tensor in host memory (`loadstone.read.tensor.HostTensor`)."""

    @property
    def dtype(self) -> str:
        """Canonical dtype name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""

    @property
    def data(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Its bytes, one after the other."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor to be saved.

    Attributes:
        name: The name under which it is stored.
        dtype: Canonical dtype name.
        shape: Sizes of its axes.
        read: Brings its bytes into host memory; called once, when its turn has come.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Held]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return nbytes(self.dtype, self.shape)

    def data(self) -> memoryview:
        """Return its bytes, held against what was announced.

        Raises:
            BackendError: If the backend gives another tensor than it announced.
        """
        host = self.read()
        if (host.dtype, host.shape, len(host.data)) != (self.dtype, self.shape, self.nbytes):
            raise BackendError(
                "a backend gave back another tensor than it announced",
                where=f"tensor {self.name!r}",
                expected=f"{self.dtype} {list(self.shape)}, {self.nbytes:,} bytes",
                found=f"{host.dtype} {list(host.shape)}, {len(host.data):,} bytes",
                hint="report it to the author of the backend",
            )
        return host.data.data

    def blocks(self) -> Iterator[memoryview]:
        """Yield its bytes, some at a time; its memory is free when the last is let go of."""
        data = self.data()
        for start in range(0, self.nbytes, BLOCK):
            yield data[start : start + BLOCK]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file to be written.

    Attributes:
        file: Its name.
        tensors: Its tensors, in the order in which they will lie.
        aliases: Further name -> the tensor of this file that it is too.
    """

    file: str
    tensors: tuple[StoredTensor, ...]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every name that it holds, aliases last."""
        return [*(tensor.name for tensor in self.tensors), *self.aliases]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A model in the words of a format whose files say themselves what they hold.

    Attributes:
        writer: Writes it.
        tensors: What is written.
        notes: What is to be told of it, in sentences.
    """

    writer: Writer
    tensors: tuple[StoredTensor, ...]
    notes: tuple[str, ...] = ()


class Writer(ABC):
    """How one format is written: forward, in one pass, a tensor at a time. Nothing of it knows a folder or a disk.

    Attributes:
        dialect: Whose names and axes the tensors must have: "" those of checkpoints, "tensorflow" or "flax".
        notes: Whether a file notes the save that it is of, in the values of `NOTES`: then `start` is called.
        one_file_aliases: Whether aliases stand in the one file alone, not in shards.
        reserved: Names that no tensor may have.
        whole: Whether a file says itself what the model is: then `told` is called, and there is one file.
    """

    dialect: ClassVar[str] = ""
    notes: ClassVar[bool] = False
    one_file_aliases: ClassVar[bool] = False
    reserved: ClassVar[frozenset[str]] = frozenset()
    whole: ClassVar[bool] = False

    def told(self, tensors: Sequence[StoredTensor], config: Config) -> Told:
        """Return a model as the format says it: its own names, dtypes and arrangement, and what stands beside them.

        Nothing is read of a tensor before its turn has come.

        Args:
            tensors: All of the model, under the names that a checkpoint of its largest class has today.
            config: The configuration.

        Raises:
            ArgumentError: If the format cannot say all of it; all problems are named at once.
        """
        raise NotImplementedError

    @abstractmethod
    def file_names(self, number: int, *, variant: str | None) -> list[str]:
        """Return the names of as many files of weights as are to be written."""

    @abstractmethod
    def index_name(self, variant: str | None) -> str:
        """Return the name of the index of several files."""

    @abstractmethod
    def blocks(self, shard: Shard, metadata: Mapping[str, str]) -> Iterator[Block]:
        """Yield the bytes of one file from the first to the last; each tensor is read when its turn has come.

        Args:
            shard: What it holds.
            metadata: Texts to hold beside the tensors.
        """

    def start(self, shard: Shard, metadata: Mapping[str, str]) -> bytes:
        """Return the first bytes of a file once the values of our own keys are known; as many as with blanks."""
        return b""

    def ordered(self, tensors: Sequence[StoredTensor]) -> tuple[StoredTensor, ...]:
        """Return the tensors of one file, given in name order, in the order in which they will lie."""
        return tuple(tensors)

    def listed(self, name: str) -> str:
        """Return what the index calls a tensor."""
        return name

    def problems(
        self, tensors: Sequence[StoredTensor], metadata: Mapping[str, str], *, variant: str | None
    ) -> Iterator[str]:
        """Yield what the format cannot hold, in words that name it; asked before anything is written."""
        return iter(())


def packed(tensors: Sequence[StoredTensor]) -> Iterator[str]:
    """Yield the tensors of numbers of less than a byte, as problems."""
    for tensor in tensors:
        if DTYPES[tensor.dtype].bits % 8:
            yield f"{tensor.name}: {tensor.dtype} packs several numbers into a byte"
