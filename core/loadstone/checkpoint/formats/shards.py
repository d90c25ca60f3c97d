"""The index file of a sharded checkpoint, and whether it and its shards belong together."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from loadstone.checkpoint.formats.names import GENERATION
from loadstone.checkpoint.index import TensorInfo
from loadstone.config.json_text import parse_json
from loadstone.errors import CheckpointError, SourceError, shown
from loadstone.source import safe_name

MAX_ENTRIES = 400_000
"""Tensors that an index may place."""

MAX_SHARDS = 10_000
"""Shards that it may name; the largest checkpoints have some hundreds."""

_AGAIN = "fetch the index and all shards again from one revision, or save the checkpoint again"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShardMap:
    """What an index such as `model.safetensors.index.json` says.

    Attributes:
        places: Tensor -> name of the shard that should hold it; entries that were refused are left out.
        metadata: Its `metadata`, as it came; empty where there is none.
        problems: One line for each entry that was refused.
    """

    places: Mapping[str, str]
    metadata: Mapping[str, Any]
    problems: tuple[str, ...] = ()

    @property
    def shards(self) -> list[str]:
        """Names of the shards, each once, in order."""
        return sorted(set(self.places.values()))

    def beside(self, shards: Collection[str]) -> dict[str, str]:
        """Return tensor -> shard for those that lie in none of some shards."""
        return {tensor: shard for tensor, shard in self.places.items() if shard not in shards}

    @property
    def generation(self) -> str | None:
        """The save that wrote the index, where that is known."""
        found = self.metadata.get(GENERATION)
        return found if isinstance(found, str) else None


def parse_shard_map(
    text: str, *, file: str, where: object, endings: tuple[str, ...] = (".safetensors",)
) -> ShardMap:
    """Parse the text of an index file. Its names are only safe to use once this has passed them.

    Args:
        text: The text.
        file: Name of the file.
        where: The folder or repository that it lies in.
        endings: How the names of shards may end.

    Raises:
        CheckpointError: If it is not JSON, holds no `weight_map` of texts, or more than shards can have.

    Example:
        >>> text = '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'
        >>> parse_shard_map(text, file="model.safetensors.index.json", where="a folder").shards
        ['model-00001-of-00001.safetensors']
    """
    twice: list[str] = []
    parsed = _parse(text, twice, place=f"{file} in {where}")
    places, problems = {}, [f"the index names {shown(key)} twice" for key in twice]
    refused: defaultdict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    for tensor, shard in parsed["weight_map"].items():
        try:
            places[tensor] = names.get(shard) or names.setdefault(
                shard, _shard_name(shard, endings, where=file)
            )
        except SourceError as error:
            refused[f"the index names the file {shown(shard)}: {error.what}"].append(tensor)
    problems += [f"{problem} ({named(tensors)})" for problem, tensors in refused.items()]
    return ShardMap(places=places, metadata=parsed.get("metadata") or {}, problems=tuple(problems))


def _parse(text: str, twice: list[str], *, place: str) -> dict[str, Any]:
    """Return the parsed index, its types checked; keys that occur twice are added to `twice`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    try:
        parsed: Any = parse_json(text, most=MAX_ENTRIES, pairs=unique)
    except ValueError as error:
        pointer = text.startswith("version https://git-lfs")
        raise CheckpointError(
            "the index of the shards is not valid JSON"
            if isinstance(error, json.JSONDecodeError)
            else "the index of the shards is none that shards can have",
            where=place,
            found="a Git LFS pointer" if pointer else str(error)[:200],
            hint="run `git lfs pull` in the folder" if pointer else _AGAIN,
        ) from error
    weight_map = parsed.get("weight_map") if isinstance(parsed, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(
            "the index of the shards has no usable `weight_map`",
            where=f"{place}, key 'weight_map'",
            expected="an object: name of a tensor -> name of its shard",
            found="nothing" if weight_map is None else shown(weight_map),
            hint=_AGAIN,
        )
    if (number := len(set(weight_map.values()))) > MAX_SHARDS:
        raise CheckpointError(
            "the index names too many shards",
            where=f"{place}, key 'weight_map'",
            expected=f"at most {MAX_SHARDS:,}",
            found=f"{number:,}",
            hint=_AGAIN,
        )
    if not weight_map or not isinstance(parsed.get("metadata") or {}, dict):
        raise CheckpointError(
            "the index of the shards "
            + ("has `metadata` of a wrong type" if weight_map else "lists no tensor"),
            where=place,
            expected="an object" if weight_map else "at least one entry in `weight_map`",
            found=shown(parsed.get("metadata")) if weight_map else "none",
            hint=_AGAIN,
        )
    return dict(parsed)


def _shard_name(name: str, endings: tuple[str, ...], *, where: object) -> str:
    safe = safe_name(name, where=where)
    if not safe.endswith(endings):
        raise SourceError(f"it does not end in {' or '.join(endings)}", where=where)
    return safe


def mismatches(places: Mapping[str, str], stored: Mapping[str, Sequence[TensorInfo]]) -> list[str]:
    """Compare an index with the headers of its shards.

    Args:
        places: Tensor -> shard, as the index says; only shards whose header could be read.
        stored: Shard -> its tensors.

    Returns:
        One line per problem; none if each tensor lies once, in the shard that the index names for it.
    """
    found = {info.name: shard for shard, infos in stored.items() for info in infos}
    if found == places and len(found) == sum(map(len, stored.values())):
        return []
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for shard, infos in stored.items():
        for info in infos:
            holders[info.name].append(shard)
    twice, moved, absent, unlisted = [], defaultdict(list), defaultdict(list), defaultdict(list)
    for tensor, shards in holders.items():
        if len(shards) > 1:
            twice.append(f"{shown(tensor)} is stored in {len(shards)} shards: {', '.join(shards)}")
        elif tensor not in places:
            unlisted[shards[0]].append(tensor)
        elif shards[0] != places[tensor]:
            moved[places[tensor], shards[0]].append(tensor)
    for tensor, shard in places.items():
        if tensor not in holders:
            absent[shard].append(tensor)
    problems = [
        f"{named(tensors)}: the index places it in {shard}, which lacks it"
        for shard, tensors in absent.items()
    ]
    return [*_moved(moved, stored), *problems, *twice, *_unlisted(unlisted)]


def _moved(
    moved: Mapping[tuple[str, str], Sequence[str]], stored: Mapping[str, Sequence[TensorInfo]]
) -> Iterable[str]:
    """Say which tensors lie elsewhere; two shards that hold each other's tensors are named as one problem."""
    for (expected, actual), tensors in moved.items():
        whole = len(tensors) == len(stored[actual])
        back = moved.get((actual, expected), ())
        if whole and len(back) == len(stored[expected]):
            if expected < actual:
                yield f"{expected} and {actual} are exchanged: each holds what the index places in the other"
            continue
        yield f"{named(tensors)}: the index places it in {expected}, it lies in {actual}"


def _unlisted(unlisted: Mapping[str, Sequence[str]]) -> Iterable[str]:
    for shard, tensors in unlisted.items():
        yield f"{named(tensors)}: stored in {shard}, not in the index: the two do not belong together"


def named(tensors: Sequence[str], *, limit: int = 2) -> str:
    """Name the first few tensors and count the rest, for one line of a message."""
    listed = ", ".join(shown(tensor) for tensor in tensors[:limit])
    return listed if len(tensors) <= limit else f"{listed} and {len(tensors) - limit:,} more"
