"""Spreading a model over places: which block goes where, from sizes and budgets alone.

What must lie together is one unit: a block, a module without others below it, and all that is tied to either. Units keep the
order in which the model has them, and each device takes a run of them, so that a forward pass goes from one device to the
next once. Filling one device after the other gets as far as any split does: so one pass tells whether all loads can stay
below a limit.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from loadstone.architectures import matches
from loadstone.errors import PlacementError, human_bytes

Where = TypeVar("Where")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Parameters that lie in one place.

    Attributes:
        names: The modules, or single parameters, that it consists of; several where ties join them.
        nbytes: Bytes of its parameters, tied ones once.
    """

    names: tuple[str, ...]
    nbytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A place, and what it may hold.

    Attributes:
        name: Of the device, or "disk".
        budget: Bytes of parameters that it may hold; None: as many as come.
    """

    name: str
    budget: int | None

    def holds(self, nbytes: int) -> bool:
        """Return whether so many bytes are within the budget."""
        return self.budget is None or nbytes <= self.budget


def block_finder(patterns: Iterable[str], prefix: str) -> Callable[[str], str]:
    """Return what names the block that a parameter belongs to, or "".

    Args:
        patterns: Base-model patterns of blocks (`Architecture.no_split`).
        prefix: Where the base model sits in the model (`Head.prefix`).

    Example:
        >>> block_finder(["layers.{}"], "model")("model.layers.10.mlp.up_proj.weight")
        'model.layers.10'
    """
    starts = [f"{prefix}.{pattern}" if prefix else pattern for pattern in patterns]
    rules = [(start.partition("{}")[0], start.count(".") + 1, start) for start in starts]
    known: set[str] = set()  # a block is asked for once for each of its parameters

    def block_of(parameter: str) -> str:
        for begins, length, pattern in rules:
            if parameter.startswith(begins):
                block = ".".join(parameter.split(".", length)[:length])
                if block in known or matches(pattern, block):
                    known.add(block)
                    return block
        return ""

    return block_of


def no_blocks(parameter: str) -> str:
    """Return "": of a model without blocks."""
    return ""


def units_of(
    sizes: Mapping[str, int],
    *,
    ties: Iterable[tuple[str, str]] = (),
    block_of: Callable[[str], str] = no_blocks,
) -> tuple[Unit, ...]:
    """Return what must lie together, in the order of the model.

    Args:
        sizes: Parameter -> its bytes, 0 for one that is another's; in the model's order.
        ties: Pairs of parameters that are one.
        block_of: Names the block of a parameter.
    """
    homes = _homes(sizes, block_of)
    joined = _joined(homes, ties)
    nbytes = dict.fromkeys(homes.values(), 0)
    for parameter, home in homes.items():
        nbytes[home] += sizes[parameter]
    units: dict[str, list[str]] = {}
    for home in nbytes:
        units.setdefault(joined.get(home, home), []).append(home)
    return tuple(
        Unit(names=tuple(names), nbytes=sum(nbytes[name] for name in names)) for names in units.values()
    )


def _homes(parameters: Iterable[str], block_of: Callable[[str], str]) -> dict[str, str]:
    """Return parameter -> its block, else its module, else (where modules lie below that) its own name."""
    modules = {name: name.rpartition(".")[0] for name in parameters}
    inner = {""}
    for module in modules.values():
        above = module.rpartition(".")[0]
        while above not in inner:
            inner.add(above)
            above = above.rpartition(".")[0]
    return {name: block_of(name) or (name if module in inner else module) for name, module in modules.items()}


def _joined(homes: Mapping[str, str], ties: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return home -> the first home that ties join it with; those that nothing joins are left out."""
    order = {home: number for number, home in enumerate(dict.fromkeys(homes.values()))}
    firsts: dict[str, str] = {}

    def first(home: str) -> str:
        while firsts.get(home, home) != home:
            home = firsts[home]
        return home

    for one, other in ties:
        early, late = sorted((first(homes[one]), first(homes[other])), key=order.__getitem__)
        firsts[late] = early
    return {home: first(home) for home in firsts}


def spread(
    units: Sequence[Unit], devices: Sequence[Room], offload: Sequence[Room], strategy: str
) -> dict[str, str]:
    """Decide where each unit goes.

    "auto" takes the first device that holds the model, and else does what "balanced" does: the devices' largest load is as
    small as it can be. "balanced_low_0" leaves the first device as empty as the others' budgets allow. "sequential" fills
    one device after the other. What the devices do not hold goes to `offload`; the first device then keeps room for
    the largest unit that will come back to it, and so does the host for what lies beyond it.

    Args:
        units: From `units_of`.
        devices: Those that compute, in the order in which a forward pass goes through them.
        offload: Where the rest goes: the host, then the disk, as far as they may be used.
        strategy: One of `loadstone.backend.STRATEGIES`.

    Returns:
        Module (or parameter) -> name of its place, as few as say it.

    Raises:
        PlacementError: If a unit is larger than every budget, or all the budgets together are too small.
    """
    refuse_too_large(units, [room for room in (*devices, *offload) if room.name != "disk"])
    ends = [0, *itertools.accumulate(unit.nbytes for unit in units)]
    cuts = _within(ends, _limits(ends, devices), strategy)
    rooms = list(devices)
    if cuts is None:
        rooms += offload
        cuts = _beyond(ends, devices, offload)
    if cuts[-1] < len(units):
        raise _does_not_fit(units, rooms)
    places: dict[str, str] = {}
    for room, (start, end) in zip(rooms, itertools.pairwise([0, *cuts]), strict=True):
        places |= {name: room.name for unit in units[start:end] for name in unit.names}
    return compact(places)


def _within(ends: Sequence[int], limits: Sequence[int], strategy: str) -> list[int] | None:
    """Return where each device's run of units ends, if the devices hold them all."""
    alone = next((i for i, limit in enumerate(limits) if limit >= ends[-1]), None)
    if strategy == "auto" and alone is not None:
        return [0] * alone + [len(ends) - 1] * (len(limits) - alone)
    cuts = _filled(ends, limits)
    if not cuts or cuts[-1] < len(ends) - 1:
        return None
    if strategy == "sequential":
        return cuts
    if strategy == "balanced_low_0" and len(limits) > 1:
        start = _starts(ends, limits)[1]
        return [start, *_balanced(ends, limits[1:], start)]
    return _balanced(ends, limits, 0)


def _filled(ends: Sequence[int], limits: Sequence[int], start: int = 0) -> list[int]:
    """Fill one device after the other; return where each one's run ends."""
    cuts = []
    for limit in limits:
        start = bisect.bisect_right(ends, ends[start] + limit) - 1
        cuts.append(start)
    return cuts


def _starts(ends: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Return, for each device and for after the last, the earliest start from which it and those after it hold the rest."""
    starts = [len(ends) - 1]
    for limit in reversed(limits):
        starts.append(bisect.bisect_left(ends, ends[starts[-1]] - limit))
    return starts[::-1]


def _balanced(ends: Sequence[int], limits: Sequence[int], start: int) -> list[int]:
    """Return the cuts of the smallest largest load; of those that have it, near the mean of what is left at each cut."""
    low, high = -(-(ends[-1] - ends[start]) // len(limits)), max(limits)
    while low < high:
        middle = (low + high) // 2
        if _filled(ends, [min(limit, middle) for limit in limits], start)[-1] == len(ends) - 1:
            high = middle
        else:
            low = middle + 1
    limits = [min(limit, low) for limit in limits]
    cuts = []
    for left, limit, earliest in zip(
        range(len(limits), 0, -1), limits, _starts(ends, limits)[1:], strict=True
    ):
        (latest,) = _filled(ends, [limit], start)
        wanted = ends[start] + (ends[-1] - ends[start]) // left
        at = bisect.bisect_left(ends, wanted)
        nearest = at - 1 if at and wanted - ends[at - 1] <= ends[at] - wanted else at
        start = min(max(nearest, earliest, start), latest)
        cuts.append(start)
    return cuts


def _beyond(ends: Sequence[int], devices: Sequence[Room], offload: Sequence[Room]) -> list[int]:
    """Fill the devices, then the places to offload to; return where each one's run ends."""
    cuts = _keeping_room(ends, devices, 0)
    for number, room in enumerate(offload):
        start = cuts[-1] if cuts else 0
        last = number == len(offload) - 1
        cuts += _filled(ends, _limits(ends, [room]), start) if last else _keeping_room(ends, [room], start)
    return cuts


def _keeping_room(ends: Sequence[int], rooms: Sequence[Room], start: int) -> list[int]:
    """Fill rooms, of which the first keeps room for the largest unit that lies beyond them."""
    limits = _limits(ends, rooms)
    sizes = [end - begin for begin, end in itertools.pairwise(ends)]
    largest = [*itertools.accumulate(reversed(sizes), max, initial=0)][::-1]
    cuts: list[int] = []
    for kept in sorted(set(largest[start:])):
        cuts = _filled(
            ends, [max(0, limit - kept) if i == 0 else limit for i, limit in enumerate(limits)], start
        )
        if not cuts or largest[cuts[-1]] <= kept:
            return cuts
    return cuts


def _limits(ends: Sequence[int], rooms: Sequence[Room]) -> list[int]:
    return [ends[-1] if room.budget is None else min(room.budget, ends[-1]) for room in rooms]


def compact(places: Mapping[str, Where]) -> dict[str, Where]:
    """Name a module in the place of all that lies below it, where that is in one place.

    Example:
        >>> compact({"model.embed": 0, "model.layers.0": 0, "model.layers.1": 1, "model.norm": 1, "lm_head": 1})
        {'model.embed': 0, 'model.layers.0': 0, 'model.layers.1': 1, 'model.norm': 1, 'lm_head': 1}
        >>> compact({"model.embed": 0, "model.layers.0": 0, "lm_head": 1})
        {'model': 0, 'lm_head': 1}
    """
    found: dict[str, set[Where]] = {}
    for name, place in places.items():
        for above in above_all(name):
            found.setdefault(above, set()).add(place)
    return {
        next(above for above in above_all(name) if len(found[above]) == 1): place
        for name, place in places.items()
    }


def above_all(name: str) -> list[str]:
    """Return "", each module that a name lies in, and the name.

    Example:
        >>> above_all("model.norm.weight")
        ['', 'model', 'model.norm', 'model.norm.weight']
    """
    segments = name.split(".")
    return ["", *itertools.accumulate(segments, lambda start, segment: f"{start}.{segment}")]


def refuse_too_large(units: Iterable[Unit], rooms: Sequence[Room]) -> None:
    """Make sure that each unit would fit somewhere where it can be computed.

    Raises:
        PlacementError: If one is larger than every budget.
    """
    large = [unit for unit in units if not any(room.holds(unit.nbytes) for room in rooms)]
    if large:
        needed = max(unit.nbytes for unit in large)
        raise PlacementError(
            "a block is larger than every budget, and a block stays whole",
            expected=f"a budget of {human_bytes(needed)} ({needed:,} bytes) or more for one of the places",
            found=_budgets(rooms),
            problems=[f"{' with '.join(unit.names)}: {human_bytes(unit.nbytes)}" for unit in large],
            hint="raise a budget of max_memory=, or pass a smaller dtype=",
        )


def _does_not_fit(units: Sequence[Unit], rooms: Sequence[Room]) -> PlacementError:
    total, largest = sum(unit.nbytes for unit in units), max(unit.nbytes for unit in units)
    return PlacementError(
        "the budgets do not hold the model, and too little of it may stay on disk",
        expected=f"{human_bytes(total)} ({total:,} bytes) in blocks of up to {human_bytes(largest)}",
        found=_budgets(rooms),
        hint='leave "disk" out of max_memory=: what stays there stays in the checkpoint\'s own files',
    )


def _budgets(rooms: Iterable[Room]) -> str:
    told = (
        f"{room.name}: {'no bound' if room.budget is None else human_bytes(room.budget)}" for room in rooms
    )
    return ", ".join(told) or "no place at all"
