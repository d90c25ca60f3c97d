"""A checkpoint that `torch.distributed.checkpoint` wrote: `.metadata` says which file holds which tensor, and where."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadstone.checkpoint.formats.dcp.metadata import Item, read_metadata
from loadstone.checkpoint.formats.dcp.stored import stored_tensor
from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.names import DCP
from loadstone.checkpoint.formats.pickle.format import NOTE
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.source import Snapshot

THREADS = 8


class Dcp(Format):
    """`.metadata` and the `.distcp` files beside it. There are no variants."""

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the file that describes the others."""
        return () if variant is not None else (DCP,)

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name is that of the description, or of a file of tensors."""
        return variant is None and (name == DCP or name.endswith(".distcp"))

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read the description, and of each tensor what was written around it."""
        stored = _stored(snapshot, read_metadata(snapshot, entry))
        named = itertools.groupby(stored, key=lambda info: info.name)
        infos = sorted((_joined(list(pieces)) for _, pieces in named), key=lambda one: (one.file, one.offset))
        files = tuple(sorted({info.file for info in stored}))
        return TensorIndex(tensors={info.name: info for info in infos}, files=files, notes=(NOTE,))

    def check(self, paths: Iterable[Path]) -> None:
        """Do nothing: what there is to check has been, and no library reads these files without running them."""


def _stored(snapshot: Snapshot, items: Sequence[Item]) -> list[TensorInfo]:
    """Say where the tensors lie; of files far away, several at once."""
    if all(snapshot.file(item.file).path is not None for item in items):
        return [stored_tensor(snapshot, item) for item in items]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="loadstone-headers") as pool:
        return list(pool.map(lambda item: stored_tensor(snapshot, item), items))


def _joined(pieces: Sequence[TensorInfo]) -> TensorInfo:
    """Return a tensor of its pieces."""
    if len(pieces) == 1:
        return pieces[0]
    first, rows = pieces[0], sum(piece.shape[0] for piece in pieces)
    return dataclasses.replace(
        first,
        shape=(rows, *first.shape[1:]),
        nbytes=sum(piece.nbytes for piece in pieces),
        strides=None,
        pieces=tuple(pieces),
    )
