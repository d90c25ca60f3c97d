"""A checkpoint in safetensors: one file of all tensors, or shards and the index that says which tensor lies where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadstone.checkpoint.formats import names
from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.names import BLANK, GENERATION
from loadstone.checkpoint.formats.safetensors import Header, check_with_library, read_file_header
from loadstone.checkpoint.formats.safetensors_writer import Aligned
from loadstone.checkpoint.formats.shards import ShardMap, mismatches, parse_shard_map
from loadstone.checkpoint.formats.writer import Writer
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.errors import CheckpointError, counted
from loadstone.source import Snapshot

_THREADS = 8
"""Headers of remote shards that are asked for at once."""


class Safetensors(Format):
    """`model.safetensors` is taken before `model.safetensors.index.json`."""

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the one file, then the index."""
        return names.weight_names(variant)

    def writer(self) -> Writer:
        """Return what writes our own layout."""
        return Aligned()

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a name is that of the one file, of a shard or of an index."""
        return names.is_weights(name, variant)

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Check the header of each file, and that the shards are those of the index; problems are all named at once."""
        if entry.endswith(".json"):
            shards = parse_shard_map(snapshot.read_text(entry), file=entry, where=snapshot.location)
            headers = read_shards(snapshot, shards, index=entry, read=read_file_header)
            return _join(headers, absent=shards.beside(headers))
        return _join({entry: read_file_header(snapshot, entry)}, absent={})

    def check(self, paths: Iterable[Path]) -> None:
        """Pass each file through the library's own parser too."""
        check_with_library(paths)

    def files(self, snapshot: Snapshot, entry: str) -> Sequence[str]:
        """Return the one file, or the shards that the index names."""
        if not entry.endswith(".json"):
            return [entry]
        return parse_shard_map(snapshot.read_text(entry), file=entry, where=snapshot.location).shards

    def salvage(self, snapshot: Snapshot, file: str) -> Sequence[TensorInfo]:
        """Return the tensors of one file, by its own header."""
        return read_file_header(snapshot, file)[0]


def read_shards(
    snapshot: Snapshot, shards: ShardMap, *, index: str, read: Callable[[Snapshot, str], Header]
) -> dict[str, Header]:
    """Read what each shard says of its tensors and hold it against the index; whatever is wrong is raised once.

    Args:
        snapshot: The files.
        shards: What the index says.
        index: Name of the index.
        read: Reads the header of one shard.

    Returns:
        Shard -> its header. Of a snapshot that is partial, those that are there; else all.

    Raises:
        CheckpointError: If a shard is damaged or absent, or is none of the index's.
    """
    present = [shard for shard in shards.shards if snapshot.has(shard)]
    headers, damaged = _read_headers(snapshot, present, read)
    absent = [] if snapshot.partial else _absent(shards, present)
    problems = [*shards.problems, *absent, *(_one_line(error) for error in damaged)]
    places = {tensor: shard for tensor, shard in shards.places.items() if shard in headers}
    problems += mismatches(places, {shard: infos for shard, (infos, _) in headers.items()})
    problems += _of_other_saves(shards, headers)
    if len(problems) == len(damaged) == 1:
        raise damaged[0]
    if problems:
        raise CheckpointError(
            f"{index} and its shards do not fit together",
            where=f"{index} in {snapshot.location}",
            expected="every tensor once, in the shard that `weight_map` names",
            found=counted(len(problems), "problem"),
            problems=problems,
            hint="fetch the index and all shards again from one revision, or save the checkpoint again",
        )
    return headers


def _read_headers(
    snapshot: Snapshot, names: Sequence[str], read: Callable[[Snapshot, str], Header]
) -> tuple[dict[str, Header], list[CheckpointError]]:
    def attempt(name: str) -> Header | CheckpointError:
        try:
            return read(snapshot, name)
        except CheckpointError as error:
            return error

    if any(snapshot.file(name).path is None for name in names):
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="loadstone-headers") as pool:
            results = list(pool.map(attempt, names))
    else:
        results = [attempt(name) for name in names]
    headers = {
        name: got for name, got in zip(names, results, strict=True) if not isinstance(got, CheckpointError)
    }
    return headers, [got for got in results if isinstance(got, CheckpointError)]


def _absent(shards: ShardMap, present: Sequence[str]) -> list[str]:
    counts: dict[str, int] = {}
    for shard in shards.places.values():
        counts[shard] = counts.get(shard, 0) + 1
    return [
        f"{shard} is not there; the index places {counted(counts[shard], 'tensor')} in it"
        for shard in shards.shards
        if shard not in present
    ]


def _of_other_saves(shards: ShardMap, headers: Mapping[str, Header]) -> list[str]:
    """Name the shards that another save wrote than the one that wrote the index, whatever tensors they hold."""
    if shards.generation is None:
        return []
    return [
        f"{shard} belongs to another save than the index: expected {GENERATION} {shards.generation}, found {found}"
        for shard, (_, metadata) in headers.items()
        if (found := metadata.get(GENERATION, "none")) != shards.generation
    ]


def _one_line(error: CheckpointError) -> str:
    facts = (("key", error.where), ("expected", error.expected), ("found", error.found))
    return f"{error.what}: " + ", ".join(f"{label} {fact}" for label, fact in facts if fact is not None)


def _join(headers: Mapping[str, Header], *, absent: Mapping[str, str]) -> TensorIndex:
    tensors = {info.name: info for infos, _ in headers.values() for info in infos}
    entries: dict[str, str] = {}
    for _, metadata in headers.values():
        entries = metadata | entries
    # transformers notes a shared tensor that it left out as {left out: stored}, among the other texts.
    # `format` is no tensor, even where one is called "pt".
    aliases = {
        key: text
        for key, text in entries.items()
        if (text in tensors or text in absent) and not (key in tensors or key in absent) and key != "format"
    }
    return TensorIndex(
        tensors=tensors,
        aliases=aliases,
        metadata={key: text for key, text in entries.items() if key not in aliases and key not in BLANK},
        files=tuple(headers),
        absent=absent,
    )
