"""A checkpoint that `torch.save` wrote: one file of all tensors, or shards and the index that says which tensor lies where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.pickle import names
from loadstone.checkpoint.formats.pickle.files import Header, read_file
from loadstone.checkpoint.formats.pickle.writer import PickleWriter
from loadstone.checkpoint.formats.sharded import read_shards
from loadstone.checkpoint.formats.shards import ShardMap, parse_shard_map
from loadstone.checkpoint.formats.writer import Writer
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.source import Snapshot

NOTE = (
    "the weights are pickles, the less safe choice: a pickle is a program, of which loadstone runs nothing and other"
    " tools may run all; save_pretrained writes safetensors"
)


class Pickle(Format):
    """`pytorch_model.bin` is taken before `pytorch_model.bin.index.json`, and that before .pt and .pth."""

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the one file, the index, then the other endings."""
        return names.weight_names(variant)

    def writer(self) -> Writer:
        """Return what writes the form of today."""
        return PickleWriter()

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name is that of the one file, of a shard or of an index."""
        return names.is_weights(name, variant)

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read each file's description of its tensors, and hold the shards against the index."""
        if entry.endswith(".json"):
            shards = _shards(snapshot, entry)
            headers = read_shards(snapshot, shards, index=entry, read=read_file)
            return _join(headers, absent=shards.beside(headers))
        return _join({entry: read_file(snapshot, entry)}, absent={})

    def check(self, paths: Iterable[Path]) -> None:
        """Do nothing: what there is to check has been, and no library reads these files without running them."""

    def files(self, snapshot: Snapshot, entry: str) -> Sequence[str]:
        """Return the one file, or the shards that the index names."""
        return _shards(snapshot, entry).shards if entry.endswith(".json") else [entry]

    def salvage(self, snapshot: Snapshot, file: str) -> Sequence[TensorInfo]:
        """Return the tensors of one file, by its own description."""
        return read_file(snapshot, file)[0]


def _shards(snapshot: Snapshot, entry: str) -> ShardMap:
    text = snapshot.read_text(entry)
    return parse_shard_map(text, file=entry, where=snapshot.location, endings=names.ENDINGS)


def _join(headers: Mapping[str, Header], *, absent: Mapping[str, str]) -> TensorIndex:
    """Put the files' tensors into one index; of those that are one view of one storage, the first by name is stored."""
    tensors: dict[str, TensorInfo] = {}
    aliases: dict[str, str] = {}
    texts: dict[str, str] = {}
    stored: dict[object, str] = {}
    for infos, found in headers.values():
        texts = found | texts
        for info in infos:
            view = (info.file, info.offset, info.dtype, info.shape, info.strides)
            first = stored.setdefault(view, info.name) if info.nbytes else info.name
            if first == info.name:
                tensors[info.name] = info
            else:
                aliases[info.name] = first
    return TensorIndex(
        tensors=tensors,
        aliases=aliases,
        metadata=texts,
        files=tuple(headers),
        notes=(NOTE,),
        absent=absent,
    )
