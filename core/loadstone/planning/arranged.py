"""Recipes of the parameters that a checkpoint holds in another arrangement."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from loadstone.architectures import Architecture
from loadstone.architectures.arrangements import Group
from loadstone.backend import Parameter
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.checkpoint.recipe import Concatenate, Recipe
from loadstone.planning.names import NameMap
from loadstone.planning.problems import Problems


def arranged(
    architecture: Architecture,
    parameters: Mapping[str, Parameter],
    index: TensorIndex,
    names: NameMap,
    problems: Problems,
) -> dict[str, Recipe]:
    """Return parameter -> its recipe, for those whose tensors are stored under other names in another arrangement.

    Where the checkpoint has a tensor of the parameter's own name, that one is taken instead. Of a group of tensors of
    which some are missing, or which do not fit, the problems are recorded.
    """
    if not architecture.arranged:
        return {}
    stored = {names.stored_base(name): info for name, info in index.tensors.items()}
    absent = {names.stored_base(name): file for name, file in index.absent.items()}
    found: dict[str, Recipe] = {}
    for name, parameter in parameters.items():
        base = names.base(name)
        group = next((g for a in architecture.arranged if (g := a.group(base)) is not None), None)
        if group is None or base in stored or base in absent:
            continue
        prefix = name.removesuffix(base)
        shapes = {n: parameters[prefix + n].shape for n in group.parameter_names if prefix + n in parameters}
        sources = _sources(group, stored, absent, problems)
        recipe = _recipe(group, base, sources, shapes, problems) if sources else None
        if recipe is not None and recipe.shape != parameter.shape:
            line = f"{name}: expected shape {list(parameter.shape)}, found {list(recipe.shape)} in {_told(sources)}"
            problems.add("shape", line)
        elif recipe is not None:
            found[name] = recipe
    return found


def _sources(
    group: Group, stored: Mapping[str, TensorInfo], absent: Mapping[str, str], problems: Problems
) -> list[TensorInfo]:
    """Return the stored tensors of a group, in order; none where one is missing, or its file is not here."""
    wanted = group.stored_names(1)
    if group.arrangement.counts:
        number = next(
            n
            for n in itertools.count()
            if not all(name in stored or name in absent for name in group.stored_names(n + 1))
        )
        wanted = group.stored_names(number)
    missing = [name for name in wanted if name not in stored and name not in absent]
    if len(missing) < len(wanted):
        for name in missing:
            problems.add(
                "missing", f"{name}: missing, one of the tensors that make up {group.parameter_names[0]}"
            )
    elsewhere = [name for name in wanted if name in absent]
    for name in elsewhere:
        problems.need(name, absent[name])
    return [] if missing or elsewhere else [stored[name] for name in wanted]


def _recipe(
    group: Group,
    parameter: str,
    sources: Sequence[TensorInfo],
    shapes: Mapping[str, tuple[int, ...]],
    problems: Problems,
) -> Recipe | None:
    told = _told(sources)
    if len({info.dtype for info in sources}) > 1:
        problems.add(
            "dtype", f"{told}: expected one dtype, found {', '.join(info.dtype for info in sources)}"
        )
        return None
    # What was put together of unequal parts could not be taken apart again.
    joins = group.arrangement.joins
    if isinstance(joins, Concatenate) and len({info.shape for info in sources}) > 1:
        problems.add(
            "shape", f"{told}: expected one shape, found {', '.join(str(list(i.shape)) for i in sources)}"
        )
        return None
    if any(info.pieces for info in sources):
        problems.add("shape", f"{told}: stored in pieces, of which nothing else can be made yet")
        return None
    recipe = Recipe(sources=tuple(sources), steps=group.loading(parameter, shapes))
    splits = group.arrangement.splits
    try:
        whole = (
            Recipe(sources=tuple(sources), steps=group.arrangement.transposes).shape
            if splits
            else recipe.shape
        )
    except ValueError as error:
        problems.add("shape", f"{told}: {error}")
        return None
    if splits is not None and whole[splits.axis] != (
        total := sum(shape[splits.axis] for shape in shapes.values())
    ):
        line = f"{told}: expected {total} along axis {splits.axis} for {', '.join(shapes)}, found {whole[splits.axis]}"
        problems.add("shape", line)
        return None
    return recipe


def _told(sources: Sequence[TensorInfo]) -> str:
    first, last = sources[0], sources[-1]
    return f"{first.file}: {first.name}" + (f" to {last.name}" if last is not first else "")
