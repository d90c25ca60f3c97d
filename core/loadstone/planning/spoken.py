"""Indices of another framework's checkpoints, told in the names and axes that an architecture's checkpoints have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from loadstone.architectures import DIALECTS, Accent, Architecture, Dialect, matches
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.checkpoint.recipe import Step, viewed
from loadstone.errors import CheckpointError, counted

T = TypeVar("T")


def as_checkpoint(index: TensorIndex, architecture: Architecture, *, where: object) -> TensorIndex:
    """Return an index in which each tensor has the name and the axes that checkpoints of the architecture give it.

    Of a turned tensor the strides change, so that the engine reads it as the view that it is.

    Args:
        index: What the files say, in the dialect of those who wrote them.
        architecture: What it turns otherwise than others do.
        where: What to call the checkpoint in an error.

    Raises:
        CheckpointError: If two tensors are one in checkpoints, or one cannot be turned; all problems are named at once.
    """
    if not index.dialect:
        return index
    dialect, problems = DIALECTS[index.dialect], []
    tensors: dict[str, TensorInfo] = {}
    for stored, info in index.tensors.items():
        name = dialect.name(stored)
        try:
            told = viewed(info, _steps(index.dialect, dialect, architecture, name, info), name=name)
        except ValueError as error:
            problems.append(f"{info.file}: {stored}: {error}")
            continue
        if tensors.setdefault(name, told) is not told:
            problems.append(f"{info.file}: {stored}: another tensor is {name} too")
    if problems:
        raise CheckpointError(
            f"the names of the tensors are none that {architecture.model_type} has in {index.dialect}",
            where=where,
            found=counted(len(problems), "problem"),
            problems=problems,
            hint="check that config.json is that of these weights",
        )
    absent = {dialect.name(stored): file for stored, file in index.absent.items()}
    return dataclasses.replace(index, tensors=tensors, absent=absent, dialect="")


def _steps(
    language: str, dialect: Dialect, architecture: Architecture, name: str, info: TensorInfo
) -> tuple[Step, ...]:
    accent = architecture.spoken.get(language, Accent())
    found = said_of(accent.steps, architecture, name)
    return dialect.steps(info.name, len(info.shape)) if found is None else found


def said_of(table: Mapping[str, T], architecture: Architecture, name: str) -> T | None:
    """Return what a table of base-model patterns says of a name, whatever prefix it has."""
    for pattern, said in table.items():
        if any(
            matches(f"{prefix}.{pattern}" if prefix else pattern, name)
            for prefix in architecture.base_prefixes
        ):
            return said
    return None
