"""What a format is asked for: the names of its files, an index of their tensors, and a check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.errors import CheckpointError

if TYPE_CHECKING:
    from loadstone.checkpoint.formats.writer import Writer
    from loadstone.source import Snapshot


class Format(ABC):
    """One format of weights, made without arguments. Nothing of it keeps a file open, and none of its files is run.

    Attributes:
        varieties: Names of what it can be written in, where that is more than one thing; the caller adds one to the format's.
    """

    varieties: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the names of the files from which a load may start, the preferred first.

        Args:
            variant: Part of the weights' names, e.g. "fp16"; a format without variants has no names for one.
        """

    @abstractmethod
    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Say where each tensor lies, without reading any and without fetching a file that holds some.

        Args:
            snapshot: The files; `read_range` and `read_text` give what describes the tensors.
            entry: The one of `weight_names` that is there.

        Raises:
            CheckpointError: If something about the files is wrong.
            SourceError: If a file cannot be read.
        """

    @abstractmethod
    def check(self, paths: Iterable[Path]) -> None:
        """Hold files of weights that lie on this machine against what `read_index` had no need to look at.

        A format of which nothing is left to check does nothing here.

        Raises:
            CheckpointError: If a file is refused.
        """

    def writer(self) -> Writer | None:
        """Return what writes the format; None where it is only read."""
        return None

    def writer_of(self, variety: str) -> Writer | None:
        """Return what writes one of `varieties`, or None: of "gguf-f16" it is asked for "f16".

        Raises:
            CheckpointError: If a library that it needs is missing.
        """
        return None

    def config(self, snapshot: Snapshot, entry: str) -> Mapping[str, Any] | None:
        """Return what would stand in config.json, where the files say themselves what the model is; else None.

        It is asked for a file that the caller named (`gguf_file=`, a path), and goes before a config.json beside it.

        Raises:
            ConfigError: If they do not say all of it, or say what cannot be followed.
            CheckpointError: If something about the files is wrong.
            SourceError: If a file cannot be read.
        """
        return None

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a file of this name holds weights of the variant, or describes them."""
        return name in self.weight_names(variant)

    def files(self, snapshot: Snapshot, entry: str) -> Sequence[str]:
        """Return the names of the files that should hold the tensors, whether they are there or not.

        Raises:
            CheckpointError: If the entry does not say.
        """
        return self.read_index(snapshot, entry).files

    def salvage(self, snapshot: Snapshot, file: str) -> Sequence[TensorInfo]:
        """Return the tensors of one file, told by itself, of a checkpoint whose index could not be read.

        Raises:
            CheckpointError: If the file cannot be read either, or does not say what it holds.
        """
        raise CheckpointError(f"{file} does not say itself what it holds", where=snapshot.location)
