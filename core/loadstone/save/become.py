"""What each tensor of a checkpoint becomes when it is converted: decided from headers and config.json, before anything is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from loadstone.architectures import Architecture, architecture_of, matches, model_types
from loadstone.checkpoint.formats.names import DEFAULT
from loadstone.checkpoint.formats.target import Target
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.checkpoint.recipe import Cast, Recipe, Step
from loadstone.config import CONFIG_NAME, Config
from loadstone.dtypes import CASTABLE, DTYPES, canonical
from loadstone.errors import ArgumentError, counted
from loadstone.load.configuration import Asked, read_config, read_values
from loadstone.planning.speak import spoken
from loadstone.planning.spoken import as_checkpoint
from loadstone.save.told import under_full_names
from loadstone.source import Snapshot

_DTYPE_KEYS = ("dtype", "torch_dtype")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Becoming:
    """What is written.

    Attributes:
        recipes: Name in the new files -> how the tensor is made.
        aliases: Further name -> the tensor that it is too.
        notes: What is to be told of it.
        dtype: What floats become; None where they stay.
        config: The configuration, where the format needs it or the model type is known.
    """

    recipes: Mapping[str, Recipe]
    aliases: Mapping[str, str]
    notes: tuple[str, ...]
    dtype: str | None
    config: Config | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What a checkpoint is of, where that is known."""

    architecture: Architecture
    config: Config

    def tied(self, name: str, to: str) -> bool:
        """Return whether one name is another's parameter, as the configuration has it."""
        return any(head.ties_of(self.config).get(name) == to for head in self.architecture.heads)


def become(
    index: TensorIndex,
    snapshot: Snapshot,
    claim: str,
    target: Target,
    dtype: object,
    asked: Asked,
) -> Becoming:
    """Decide a conversion.

    Args:
        index: What the files hold.
        snapshot: The files.
        claim: Who reads them, as "format.h5".
        target: What is written.
        dtype: What floats become; None: they stay.
        asked: What decides the model type, and which weights are read.

    Raises:
        ConfigError: If names must change, and config.json does not say whose they are.
        CheckpointError: If names are none of the architecture's.
        ArgumentError: If the format has no names for the architecture, or tensors cannot be cast.
    """
    wanted = None if dtype is None else _float(dtype)
    writer = target.writer
    if wanted is not None and writer.whole:  # a number that is rounded twice is another one
        raise ArgumentError(
            f"format={target.name!r} says the dtype already, and takes no dtype=",
            found=f"dtype={wanted!r}",
            hint="leave it out",
        )
    kind = _kind(snapshot, asked, needed=bool(index.dialect or writer.dialect or writer.whole))
    if kind is not None:
        index = _stored_as_tied(as_checkpoint(index, kind.architecture, where=snapshot.location), kind)
    casts = _casts(index, snapshot, wanted, kind, asked)
    kept, copied = _ties(index, kind, target, noted=claim == f"format.{DEFAULT}" and not writer.whole)
    tensors = {**index.tensors, **{name: index.tensors[stored] for name, stored in copied.items()}}
    recipes = {
        name: Recipe(sources=(info,), steps=_cast(casts.get(info.name))) for name, info in tensors.items()
    }
    notes = _told(copied)
    if writer.dialect and kind is not None:
        recipes, said = spoken(recipes, kind.architecture, kind.config, writer.dialect)
        kept, notes = dict(said.aliases), (*notes, *said.notes)
    if writer.whole and kind is not None:  # whose ties the file says
        recipes, left_out = under_full_names(recipes, kind.architecture)
        kept, notes = {}, (*notes, *left_out)
    return Becoming(
        recipes=recipes, aliases=kept, notes=notes, dtype=wanted, config=None if kind is None else kind.config
    )


def _stored_as_tied(index: TensorIndex, kind: _Kind) -> TensorIndex:
    """Return an index in which of two tied names that one is stored to which the other is tied."""
    tensors, aliases = dict(index.tensors), dict(index.aliases)
    for name, stored in index.aliases.items():
        if stored in tensors and kind.tied(stored, name):
            tensors[name] = dataclasses.replace(tensors.pop(stored), name=name)
            aliases = {other: name if to == stored else to for other, to in aliases.items() if other != name}
            aliases[stored] = name
    return dataclasses.replace(index, tensors=tensors, aliases=aliases)


def _told(copied: Mapping[str, str]) -> tuple[str, ...]:
    pairs = ", ".join(f"{name} ({stored})" for name, stored in list(copied.items())[:4])
    return (f"tensors that were one are two now: {pairs}",) if copied else ()


def _float(dtype: object) -> str:
    name = canonical(dtype)
    if name not in CASTABLE:
        raise ArgumentError(
            f"tensors cannot be cast to {name}", expected=f"one of: {', '.join(sorted(CASTABLE))}"
        )
    return name


def _kind(snapshot: Snapshot, asked: Asked, *, needed: bool) -> _Kind | None:
    """Return what the checkpoint is of; None where it does not matter, and nobody knows."""
    known = asked.model_type or read_values(snapshot, asked.weights).get("model_type")
    if not needed and known not in model_types():
        return None
    config, _ = read_config(snapshot, asked)
    return _Kind(architecture_of(config), config)


def _cast(dtype: str | None) -> tuple[Step, ...]:
    return () if dtype is None else (Cast(dtype),)


def _casts(
    index: TensorIndex, snapshot: Snapshot, wanted: str | None, kind: _Kind | None, asked: Asked
) -> dict[str, str]:
    """Return stored name -> the dtype that a tensor is cast to.

    Raises:
        ArgumentError: If there are floats that carry a scale; a cast would drop it.
    """
    if wanted is None:
        return {}
    floats = [info for info in index.tensors.values() if DTYPES[info.dtype].kind == "float"]
    packed = [f"{info.name}: {info.dtype}" for info in floats if info.dtype not in CASTABLE]
    if packed or read_values(snapshot, asked.weights).get("quantization_config"):
        raise ArgumentError(
            "a quantised checkpoint cannot be cast: its numbers mean something with their scales alone",
            where=snapshot.location,
            found=counted(len(packed), "tensor") if packed else "quantization_config in config.json",
            problems=packed,
            hint="leave dtype out",
        )
    wide = () if kind is None else kind.architecture.wide_for(wanted)
    prefixes = ("",) if kind is None else kind.architecture.base_prefixes
    goals = ((info, "float32" if _is_any(info, wide, prefixes) else wanted) for info in floats)
    return {info.name: goal for info, goal in goals if goal != info.dtype}


def _is_any(info: TensorInfo, patterns: tuple[str, ...], prefixes: tuple[str, ...]) -> bool:
    return any(
        matches(f"{prefix}.{pattern}" if prefix else pattern, info.name)
        for pattern in patterns
        for prefix in prefixes
    )


def _ties(
    index: TensorIndex, kind: _Kind | None, target: Target, *, noted: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the aliases that are noted, and those of which a copy is written, since a load would not know that they are one.

    Args:
        index: What the files hold, stored under the names that others are tied to.
        kind: What the checkpoint is of.
        target: What is written.
        noted: Whether who wrote the files chose which of the names is stored.
    """
    if target.claim == "pickle":  # which holds one storage under as many names as there are
        return dict(index.aliases), {}
    kept, copied = {}, {}
    for name, stored in index.aliases.items():
        if noted or (kind is not None and kind.tied(name, stored)):
            kept[name] = stored
        else:
            copied[name] = stored
    return kept, copied


def config_with(snapshot: Snapshot, dtype: str | None, asked: Asked) -> str:
    """Return the text of config.json, as it is, or with another dtype wherever it says one; no key is lost.

    Of a file that says itself what the model is, it is what that says.
    """
    values = read_values(snapshot, asked.weights)  # whose errors say what is wrong with it
    if dtype is None and asked.file == CONFIG_NAME:
        return snapshot.read_text(CONFIG_NAME)
    values = values if dtype is None else _with_dtype(values, dtype)
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _with_dtype(values: dict[str, Any], dtype: str) -> dict[str, Any]:
    return dict(_replaced(values, dtype))


def _replaced(values: dict[str, Any], dtype: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key in _DTYPE_KEYS and isinstance(value, str):
            yield key, dtype
        else:
            yield key, _with_dtype(value, dtype) if isinstance(value, dict) else value
