"""What the formats of transformers' other frameworks share: one file or shards, under names of that framework's."""

from __future__ import annotations

import dataclasses
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.safetensors import Header
from loadstone.checkpoint.formats.sharded import read_shards
from loadstone.checkpoint.formats.shards import ShardMap, parse_shard_map
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.source import Snapshot

_NUMBERS = re.compile(r"-\d{5,}-of-\d{5,}")


def shard_names(stem: str, ending: str, number: int) -> list[str]:
    """Return the names of as many files of weights as are to be written."""
    if number == 1:
        return [stem + ending]
    return [f"{stem}-{part:05d}-of-{number:05d}{ending}" for part in range(1, number + 1)]


def index_name(stem: str, ending: str) -> str:
    """Return the name of the index of shards."""
    return f"{stem}{ending}.index.json"


def without_variant(variant: str | None) -> Iterator[str]:
    """Yield the variant, which these formats have no names for, as a problem."""
    if variant is not None:
        yield f"variant={variant!r}: its files have no variants"


class Foreign(Format):
    """The one file is taken before the index of shards. They have no variants.

    Attributes:
        stem: How the names of its files begin.
        ending: How they end.
        dialect: Whose names the tensors have: "tensorflow" or "flax".
    """

    stem: ClassVar[str]
    ending: ClassVar[str]
    dialect: ClassVar[str]

    @abstractmethod
    def read(self, snapshot: Snapshot, file: str) -> Header:
        """Say where each tensor of one file lies."""

    def listed(self, name: str) -> str:
        """Return the name that a tensor of the index has in its shard."""
        return name

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the one file, then the index."""
        one, index = self.stem + self.ending, index_name(self.stem, self.ending)
        return () if variant is not None else (one, index)

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name is that of the one file, of a shard or of the index."""
        middle = name.removeprefix(self.stem).removesuffix(self.ending)
        shard = name == self.stem + middle + self.ending and _NUMBERS.fullmatch(middle) is not None
        return name in self.weight_names(variant) or (variant is None and shard)

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read each file's description of its tensors, and hold the shards against the index."""
        if entry.endswith(".json"):
            headers = read_shards(snapshot, self._shards(snapshot, entry), index=entry, read=self.read)
        else:
            headers = {entry: self.read(snapshot, entry)}
        return self._join(headers)

    def check(self, paths: Iterable[Path]) -> None:
        """Do nothing: what there is to check has been."""

    def files(self, snapshot: Snapshot, entry: str) -> Sequence[str]:
        """Return the one file, or the shards that the index names."""
        return self._shards(snapshot, entry).shards if entry.endswith(".json") else [entry]

    def salvage(self, snapshot: Snapshot, file: str) -> Sequence[TensorInfo]:
        """Return the tensors of one file, by its own description."""
        return self.read(snapshot, file)[0]

    def _shards(self, snapshot: Snapshot, entry: str) -> ShardMap:
        text = snapshot.read_text(entry)
        found = parse_shard_map(text, file=entry, where=snapshot.location, endings=(self.ending,))
        return dataclasses.replace(
            found, places={self.listed(name): shard for name, shard in found.places.items()}
        )

    def _join(self, headers: Mapping[str, Header]) -> TensorIndex:
        tensors = {info.name: info for infos, _ in headers.values() for info in infos}
        texts = {key: text for _, found in headers.values() for key, text in found.items()}
        return TensorIndex(tensors=tensors, metadata=texts, files=tuple(headers), dialect=self.dialect)
