"""Models of which a part alone is loaded: which blocks are left out, and what a plan then says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from loadstone.backend import Placement
from loadstone.errors import ArgumentError
from loadstone.planning.records import Assignment, LoadPlan, Stored, StoredStates

LEFT_OUT = "its parameters are left out"
"""Why a stored tensor is ignored that absent parameters alone would take."""


def others_than(
    layers: Iterable[int], parameters: Iterable[str], block_of: Callable[[str], str]
) -> tuple[str, ...]:
    """Return the numbered blocks of a model that `layers=` does not name.

    Args:
        layers: Numbers of the blocks to load.
        parameters: Names of the model's parameters.
        block_of: Names the block of a parameter.

    Raises:
        ArgumentError: If the model has not one stack of blocks, or no block of a number.

    Example:
        >>> others_than([0, 2], ["a.0.x", "a.1.x", "a.2.x", "norm"], lambda name: name[:3] if name[0] == "a" else "")
        ('a.1',)
    """
    stacks: dict[str, dict[int, str]] = {}
    for block in dict.fromkeys(map(block_of, parameters)):
        stack, _, number = block.rpartition(".")
        if number.isdigit():
            stacks.setdefault(stack, {})[int(number)] = block
    if len(stacks) != 1:
        raise ArgumentError(
            "layers= is for models with one stack of blocks",
            found=", ".join(stacks) or "none",
            hint='name what is left out in device_map=: {"": "cpu", "the module": None}',
        )
    [(stack, blocks)] = stacks.items()
    wanted = _numbers(layers, expected=f"numbers of {stack}, 0 to {max(blocks)}")
    if unknown := sorted(wanted - blocks.keys()):
        raise ArgumentError(
            "layers= names blocks that the model does not have",
            expected=f"some of {stack}.0 to {stack}.{max(blocks)}",
            found=", ".join(map(str, unknown[:8])),
            hint=f"the model has {len(blocks)}: layers=range(0, {min(4, len(blocks))}) loads the first",
        )
    return tuple(block for number, block in blocks.items() if number not in wanted)


def _numbers(layers: object, *, expected: str) -> set[int]:
    """Return what `layers=` names."""
    numbers: list[Any] = (
        list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    )
    if any(not isinstance(one, int) or isinstance(one, bool) for one in numbers):
        raise ArgumentError(
            "layers= is no collection of numbers",
            expected=expected,
            found=repr(layers),
            hint="pass a range or a list: layers=range(0, 4)",
        )
    return set(numbers)


def but(plan: LoadPlan, left_out: Collection[str], device_map: object) -> LoadPlan:
    """Return a plan without blocks, which are placed by themselves.

    Raises:
        ArgumentError: If a device map says of one of them that it is somewhere.
    """
    if not left_out:
        return plan
    blocks = frozenset(left_out)
    said = device_map if isinstance(device_map, Mapping) else {}
    if both := [
        f"{name}: {place!r}" for name, place in said.items() if place is not None and _is_in(name, blocks)
    ]:
        raise ArgumentError(
            "layers= leaves out what device_map= has a place for",
            problems=both,
            hint="leave one of the two out",
        )
    kept = {
        name: one
        for name, one in plan.assignments.items()
        if not _is_in(name, blocks) and not _is_in(one.to, blocks)
    }
    compare = tuple(pair for pair in plan.compare if kept.keys() >= set(pair))
    return dataclasses.replace(plan, assignments=kept, compare=compare)


def _is_in(name: str, blocks: Collection[str]) -> bool:
    """Return whether a name is that of a block, or of something in it."""
    while name and name not in blocks:
        name = name.rpartition(".")[0]
    return bool(name)


def in_part(plan: LoadPlan, placement: Placement) -> LoadPlan:
    """Return a plan in which what is placed nowhere is absent, and what is stored for it alone is ignored."""
    if not any(place.absent for place in placement.places):
        return plan
    absent = {name for name, one in plan.assignments.items() if one.dtype and placement.of(name).absent}
    assignments = {
        name: _without_values(one) if name in absent else one for name, one in plan.assignments.items()
    }
    taken = {info.name for one in assignments.values() if one.recipe for info in one.recipe.sources}
    left = {info.name for n in absent if (recipe := plan.assignments[n].recipe) for info in recipe.sources}
    stored = plan.stored
    if isinstance(stored, StoredStates):
        stored = stored.but({n: Stored(name=n, state="ignored", why=LEFT_OUT) for n in sorted(left - taken)})
    compare = tuple(pair for pair in plan.compare if absent.isdisjoint(pair))
    return dataclasses.replace(plan, assignments=assignments, stored=stored, compare=compare)


def _without_values(one: Assignment) -> Assignment:
    return Assignment(name=one.name, state="absent", dtype=one.dtype, shape=one.shape)
