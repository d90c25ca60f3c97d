"""A checkpoint in one archive of arrays, `model.npz`, under the names of checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.names import NPZ
from loadstone.checkpoint.formats.npz.files import read_file
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.source import Snapshot


class Npz(Format):
    """`model.npz` is taken before `weights.npz`. There are no variants and no shards."""

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the names of the one file."""
        return () if variant is not None else NPZ

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read the archive's directory, and the header of each array."""
        infos = read_file(snapshot, entry)
        return TensorIndex(tensors={info.name: info for info in infos}, files=(entry,))

    def check(self, paths: Iterable[Path]) -> None:
        """Do nothing: what there is to check has been."""

    def salvage(self, snapshot: Snapshot, file: str) -> Sequence[TensorInfo]:
        """Return the arrays of the file."""
        return read_file(snapshot, file)
