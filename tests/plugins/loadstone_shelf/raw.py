"""Raw float32 numbers in `weights.raw`, and `weights.json`: name -> offset in bytes and shape."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from loadstone.checkpoint.formats import Format
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.errors import CheckpointError
from loadstone.source import Snapshot

NUMBERS = "weights.raw"
INDEX = "weights.json"


class Raw(Format):
    """The format; it knows no variants."""

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the index."""
        return (INDEX,) if variant is None else ()

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name is one of the two."""
        return variant is None and name in (INDEX, NUMBERS)

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read the index alone."""
        try:
            entries = json.loads(snapshot.read_text(entry))
        except ValueError as error:
            raise CheckpointError(f"{entry} is no JSON", where=snapshot.location) from error
        tensors = {
            name: TensorInfo(
                name=name,
                dtype="float32",
                shape=tuple(one["shape"]),
                file=NUMBERS,
                offset=one["offset"],
                nbytes=4 * math.prod(one["shape"]),
            )
            for name, one in entries.items()
        }
        return TensorIndex(tensors=tensors, files=(NUMBERS,))

    def check(self, paths: Iterable[Path]) -> None:
        """Refuse a file that is no sequence of numbers."""
        for path in paths:
            if path.stat().st_size % 4:
                raise CheckpointError(f"{path.name} holds a part of a number", where=path)
