"""A model for a format whose files say themselves what they hold: under the names of today, all of it, and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from loadstone.architectures import Architecture
from loadstone.checkpoint.formats.target import Target
from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.config import Config
from loadstone.errors import ArgumentError, counted
from loadstone.planning.names import current_name
from loadstone.planning.speak import is_of_head, is_unneeded, prefix_of

T = TypeVar("T")


def under_full_names(
    stored: Mapping[str, T], architecture: Architecture
) -> tuple[dict[str, T], tuple[str, ...]]:
    """Return what a checkpoint holds under the names that one of a model with a head has today, and notes of what is left out.

    Args:
        stored: Name in the checkpoint -> anything.
        architecture: What it is of.

    Raises:
        ArgumentError: If two names are one.
    """
    current = {name: current_name(name, architecture) for name in stored}
    prefix = prefix_of(architecture)
    bare = prefix and not any(name.startswith(f"{prefix}.") for name in current.values())
    found: dict[str, T] = {}
    unneeded, problems = [], []
    for name, new in current.items():
        full = f"{prefix}.{new}" if bare and not is_of_head(new, architecture) else new
        if is_unneeded(full, architecture):
            unneeded.append(name)
        elif full in found:
            problems.append(f"{name}: another tensor is {full} too")
        else:
            found[full] = stored[name]
    if problems:
        raise ArgumentError(
            "the tensors are not those of one model",
            found=counted(len(problems), "problem"),
            problems=problems,
        )
    return found, _left_out(unneeded)


def _left_out(names: Sequence[str]) -> tuple[str, ...]:
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return (f"left out, as no model needs it: {shown}",) if names else ()


def told(
    tensors: Iterable[StoredTensor], target: Target, config: Config
) -> tuple[list[StoredTensor], Target, tuple[str, ...]]:
    """Return what is written, who writes it, and what is to be told of it; as they are, where files say nothing of the model.

    Raises:
        ArgumentError: If the format cannot say all of the model.
    """
    if not target.writer.whole:
        return list(tensors), target, ()
    found = target.writer.told(tuple(tensors), config)
    return list(found.tensors), dataclasses.replace(target, writer=found.writer), found.notes
