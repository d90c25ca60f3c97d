"""Which dtype each parameter gets: the caller's word, else the configuration's, else the file's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from loadstone.architectures import Architecture, matches
from loadstone.checkpoint.index import TensorIndex
from loadstone.config import Config
from loadstone.dtypes import DTYPES, canonical
from loadstone.errors import ArgumentError, SourceError
from loadstone.planning.records import LoadPlan

AUTO, STORED = "auto", "stored"
Keeps = Literal["", "stored", "model"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DTypePolicy:
    """The dtypes of one load.

    Attributes:
        build: Canonical float dtype that the model is built with.
        keeps: "stored": every tensor keeps the dtype in which it lies; "model": every parameter the one that it has; "":
            all get `build`.
        float32: Base-model names that are float32 whatever the rest is.
        origin: Who decided: "argument", "config" or "checkpoint".
    """

    build: str
    keeps: Keeps
    float32: tuple[str, ...]
    origin: str

    def dtype_of(self, name: str, stored: str, declared: str) -> str:
        """Return the dtype of a parameter.

        Args:
            name: Its name without the base prefix.
            stored: The dtype in which it lies.
            declared: The dtype that the model declares for it.
        """
        if self.keeps == "stored":
            return stored
        if self.keeps == "model" or DTYPES[declared].kind != "float":
            return declared
        return "float32" if any(matches(pattern, name) for pattern in self.float32) else self.build


def dtype_policy(
    argument: object, *, config: Config, index: TensorIndex | None, architecture: Architecture
) -> DTypePolicy:
    """Resolve the `dtype` argument.

    Args:
        argument: "auto" or None: the configuration's dtype (a nested one first), else that of the file's first float
            tensor; "stored": each tensor as it lies; else a dtype in any spelling.
        config: The model's configuration.
        index: The checkpoint; None for a model without one, which is then float32 unless something says otherwise.
        architecture: Names what stays float32.

    Raises:
        ArgumentError: If the argument names no dtype, or what decides names none of floats.
        SourceError: If the file's dtype decides and the file is not here.
    """
    keeps: Keeps = "stored" if argument == STORED else ""
    origin = "argument"
    if argument is not None and argument not in (AUTO, STORED):
        build = canonical(argument)
    else:
        said = config.get_text_config().dtype or config.dtype
        build, origin = (said, "config") if said and not keeps else (_first_float(index), "checkpoint")
    if DTYPES[build].kind != "float":
        raise ArgumentError(
            "a model cannot be built with this dtype",
            where=f"dtype, from the {origin}",
            expected='a float dtype such as "bfloat16"',
            found=build,
            hint='pass dtype="bfloat16", say',
        )
    return DTypePolicy(build=build, keeps=keeps, float32=architecture.wide_for(build), origin=origin)


def _first_float(index: TensorIndex | None) -> str:
    """Return the dtype of a checkpoint's first float tensor, by file and then by name; float32 without one.

    transformers decides so; it too passes over dtypes of eight bits and fewer, in which no model can be built.
    """
    if index is None:
        return "float32"
    floats = (
        (info.file, info.name, info.dtype)
        for info in index.tensors.values()
        if DTYPES[info.dtype].kind == "float" and DTYPES[info.dtype].bits >= 16
    )
    first = min(floats, default=None)
    absent = min(((file, name) for name, file in index.absent.items()), default=None)
    if absent is not None and (first is None or absent < first[:2]):
        file, name = absent
        raise SourceError(
            "the dtype is that of the first float tensor, whose file may be one that is not here",
            where=f"{file}, which holds {name}",
            expected="a dtype in config.json, or the file in the download cache",
            hint='pass dtype="bfloat16", say, or load once with network access',
        )
    return first[2] if first is not None else "float32"


def narrowed(plan: LoadPlan) -> list[str]:
    """Return the parameters whose stored tensor holds numbers that their own dtype does not."""
    casts = [(a, a.recipe.sources[0].dtype) for a in plan.in_state("cast") if a.recipe is not None]
    floats = [(a, stored) for a, stored in casts if DTYPES[a.dtype].kind == "float"]
    return [a.name for a, stored in floats if DTYPES[stored].bits >= DTYPES[a.dtype].bits]
