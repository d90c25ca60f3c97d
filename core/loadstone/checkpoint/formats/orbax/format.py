"""A checkpoint that Orbax wrote: `_METADATA` names its arrays, and tensorstore reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.names import ORBAX
from loadstone.checkpoint.formats.orbax.files import read_arrays
from loadstone.checkpoint.index import TensorIndex
from loadstone.source import Snapshot

# What Orbax writes beside an array's chunks, the database that holds them, and chunks in files of their own.
_OWN = re.compile(
    r"(params/)?(_METADATA|_CHECKPOINT_METADATA|_sharding|_strings\.json|commit_success\.txt|array_metadatas/[^/]+"
    r"|(ocdbt\.process_\d+/)?(manifest\.ocdbt|d/[0-9a-f]+)|[^/]+/(\.zarray|zarr\.json|c/[0-9/]+|c|[0-9]+(\.[0-9]+)*))"
)


class Orbax(Format):
    """The arrays of a folder, or of its folder `params`. There are no variants."""

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the file that describes the arrays, where Orbax was given this folder, or `params` in it."""
        return () if variant is not None else ORBAX

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name is of what Orbax writes."""
        return variant is None and _OWN.fullmatch(name) is not None

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read the description, and of each array its shape and dtype."""
        infos = read_arrays(snapshot, entry)
        return TensorIndex(tensors={info.name: info for info in infos}, files=(entry,))

    def check(self, paths: Iterable[Path]) -> None:
        """Do nothing: the library that reads the arrays checks them as it reads."""
