"""From a snapshot's files to one index of all tensors. Only headers are read, so a repository far away will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from loadstone.checkpoint.absent import no_weights
from loadstone.checkpoint.formats.safetensors import Header, check_with_library, read_file_header
from loadstone.checkpoint.index import TensorIndex
from loadstone.checkpoint.names import BLANK, GENERATION, weight_names
from loadstone.checkpoint.settled import settle
from loadstone.checkpoint.shards import ShardMap, mismatches, parse_shard_map
from loadstone.errors import ArgumentError, CheckpointError, counted
from loadstone.source import Snapshot

_THREADS = 8
"""Headers of remote shards that are asked for at once."""


def open_checkpoint(
    snapshot: Snapshot, *, variant: str | None = None, use_safetensors: bool | None = None
) -> TensorIndex:
    """Find the weights in a snapshot, check them from their headers alone, and index their tensors.

    `model.safetensors` is taken before `model.safetensors.index.json`. Files that the index does not name are
    not looked at.

    Args:
        snapshot: The files of a checkpoint.
        variant: Looks for `model.<variant>.safetensors` or `model.safetensors.index.<variant>.json` instead.
        use_safetensors: False asks for a pickle, which is not read yet.

    Raises:
        CheckpointError: If there are no weights that can be read, or something about them is wrong; problems
            of an index and its shards are all named at once.
        ArgumentError: If a pickle was asked for.
        SourceError: If a file cannot be read.

    Example:
        >>> from loadstone.source import resolve
        >>> index = open_checkpoint(resolve("hf-internal-testing/tiny-random-gpt2"))  # doctest: +SKIP
        >>> index.tensors["transformer.wte.weight"].shape  # doctest: +SKIP
        (1024, 32)
    """
    if use_safetensors is False:
        raise ArgumentError(
            "use_safetensors=False asks for a pickle, which is not read yet",
            expected="use_safetensors=True or None",
            hint="leave it out; transformers' save_pretrained turns a .bin into safetensors",
        )
    snapshot = settle(snapshot)
    name = find_weights(snapshot, variant=variant)
    if name.endswith(".json"):
        shards = parse_shard_map(snapshot.read_text(name), file=name, where=snapshot.location)
        headers = _read_shards(snapshot, shards, index=name)
    else:
        headers = {name: read_file_header(snapshot, name)}
    check_with_library(path for file in headers if (path := snapshot.file(file).path) is not None)
    return _join(headers)


def find_weights(snapshot: Snapshot, *, variant: str | None = None) -> str:
    """Return the name of the file from which to start: the one file of weights, or the index of the shards.

    Raises:
        CheckpointError: If there is neither; it says what there is.
    """
    wanted = weight_names(variant)
    found = next((name for name in wanted if snapshot.has(name)), None)
    if found is None:
        raise no_weights(snapshot.files, wanted, variant=variant, where=snapshot.location)
    return found


def _read_shards(snapshot: Snapshot, shards: ShardMap, *, index: str) -> dict[str, Header]:
    """Read the header of each shard and hold them against the index; whatever is wrong is raised once."""
    present = [shard for shard in shards.shards if snapshot.has(shard)]
    headers, damaged = _read_headers(snapshot, present)
    problems = [*shards.problems, *_absent(shards, present), *(_one_line(error) for error in damaged)]
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
    snapshot: Snapshot, names: Sequence[str]
) -> tuple[dict[str, Header], list[CheckpointError]]:
    def attempt(name: str) -> Header | CheckpointError:
        try:
            return read_file_header(snapshot, name)
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


def _join(headers: Mapping[str, Header]) -> TensorIndex:
    tensors = {info.name: info for infos, _ in headers.values() for info in infos}
    entries: dict[str, str] = {}
    for _, metadata in headers.values():
        entries = metadata | entries
    # transformers notes a shared tensor that it left out as {left out: stored}, among the other texts.
    # `format` is no tensor, even where one is called "pt".
    aliases = {
        key: text
        for key, text in entries.items()
        if text in tensors and key not in tensors and key != "format"
    }
    return TensorIndex(
        tensors=tensors,
        aliases=aliases,
        metadata={key: text for key, text in entries.items() if key not in aliases and key not in BLANK},
        files=tuple(headers),
    )
