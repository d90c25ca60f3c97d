"""Placing: where each parameter of a model goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from loadstone.backend import STRATEGIES, Backend, Device, Place, Placement, unknown_device
from loadstone.errors import PlacementError, human_bytes, logger_of, nearest
from loadstone.planning.parts import but
from loadstone.planning.records import LoadPlan
from loadstone.planning.rooms import ABSENT, DISK, Rooms, nth_device, rooms_of
from loadstone.planning.spread import above_all, no_blocks, spread, units_of

logger = logger_of(__name__)


def place(
    plan: LoadPlan,
    backend: Backend,
    device_map: object,
    *,
    max_memory: Mapping[Any, object] | None = None,
    block_of: Callable[[str], str] = no_blocks,
    left_out: Collection[str] = (),
) -> Placement:
    """Return where each parameter goes.

    Args:
        plan: What will be loaded.
        backend: Knows its devices.
        device_map: None: the backend's default device, or "auto" where there are budgets; a strategy (`spread` tells them); a
            device, its number, or "disk"; or module -> one of these, or None for "absent", where the longest name that fits decides.
        max_memory: Budgets, as `rooms_of` tells them.
        block_of: Names the block of a parameter, which stays whole.
        left_out: Blocks that are absent, whatever the others are.

    Raises:
        ArgumentError: If `max_memory` is not what it must be, or a map names a place for what is left out.
        PlacementError: If a device is not there or holds no values, the map leaves parameters out or takes blocks or ties
            apart, or budgets are too small.
    """
    if device_map is None and max_memory is None:
        found = Placement.on(with_values(backend.device(None)), asked=bool(left_out))
    else:
        there = but(plan, left_out, device_map)
        found = _placed(there, backend, "auto" if device_map is None else device_map, max_memory, block_of)
    if left_out:
        found = dataclasses.replace(found, modules={**found.modules, **dict.fromkeys(left_out, ABSENT)})
        _check_whole(plan, found, block_of)
    return dataclasses.replace(found, main=_main(found, backend))


def _placed(
    plan: LoadPlan,
    backend: Backend,
    device_map: object,
    max_memory: Mapping[Any, object] | None,
    block_of: Callable[[str], str],
) -> Placement:
    rooms = None if max_memory is None else rooms_of(backend, max_memory)
    if isinstance(device_map, str) and device_map in STRATEGIES:
        return _spread(plan, rooms or rooms_of(backend, None), device_map, block_of)
    if isinstance(device_map, Mapping):
        found = _mapped(plan, backend, device_map, rooms, block_of)
    else:
        found = Placement(modules={"": _place(backend, device_map, rooms)}, asked=True)
    if rooms is not None:
        _check_budgets(plan, found, rooms)
    return found


def _main(placement: Placement, backend: Backend) -> Device:
    """Return the device that computes with what is on none that does: the first accelerator, or host, with parameters."""
    held = [place.device for place in placement.places if place.device is not None]
    main = next((device for device in held if not device.is_host), held[0] if held else None)
    return main or nth_device(backend, 0) or backend.device(None)


def check_runs(placement: Placement, backend: Backend) -> None:
    """Make sure that a model can be loaded as it is placed, and run.

    Raises:
        PlacementError: If a device is one of another machine's, or the backend runs no model that is spread.
    """
    for one in placement.places:
        if one.device is not None and one.device.is_abstract and one.name.isdigit():
            raise unknown_device(int(one.name), backend.devices(), where="max_memory=")
        if one.device is not None:
            with_values(one.device)
    if placement.is_spread and not backend.capabilities.spreads:
        raise PlacementError(
            "the model would be spread over several places, which is planned but not there yet",
            expected='"auto" with room on one device, one device such as "cpu" or "cuda", or a map to one device',
            found=str(placement),
            hint="name one device, or leave device_map, max_memory and layers out",
        )


def _spread(plan: LoadPlan, rooms: Rooms, strategy: str, block_of: Callable[[str], str]) -> Placement:
    units = units_of(sizes_of(plan), ties=_ties(plan), block_of=block_of)
    names = spread(units, rooms.devices, rooms.offload, strategy)
    return Placement(modules={name: rooms.places[room] for name, room in names.items()}, asked=True)


def _place(backend: Backend, wanted: object, rooms: Rooms | None) -> Place:
    """Return the place that a caller named."""
    if wanted is None or (isinstance(wanted, str) and wanted in (DISK.name, ABSENT.name)):
        return DISK if wanted == DISK.name else ABSENT
    device = nth_device(backend, wanted)
    if device is not None:
        return Place(device=device)
    if isinstance(wanted, int) and rooms is not None and str(wanted) in rooms.places:
        return rooms.places[str(wanted)]
    return Place(device=with_values(backend.device(wanted)))


def _mapped(
    plan: LoadPlan,
    backend: Backend,
    device_map: Mapping[str, object],
    rooms: Rooms | None,
    block_of: Callable[[str], str],
) -> Placement:
    """Return the placement of a caller's map; its names match parameters at dots, and "" matches all."""
    _check_covers(plan, device_map)
    known: dict[str, Place] = {}  # a map has a few devices and may have a thousand entries
    modules = {}
    for name, wanted in device_map.items():
        if (said := repr(wanted)) not in known:
            found = _place(backend, wanted, rooms)
            known[said] = known.setdefault(found.name, found)  # what is free changes from look to look
        modules[name] = known[said]
    placement = Placement(modules=modules, asked=True)
    if len(placement.places) > 1:
        _check_whole(plan, placement, block_of)
    return placement


def _check_covers(plan: LoadPlan, device_map: Mapping[str, object]) -> None:
    uncovered = [
        name for name in plan.assignments if not any(above in device_map for above in above_all(name))
    ]
    if uncovered:
        raise PlacementError(
            "the device map names no device for some of the parameters",
            expected="a device for each module, or for everything under the name ''",
            problems=uncovered,
            hint='add them, or pass {"": device}',
        )
    modules = {above for name in plan.assignments for above in above_all(name)}
    for name in device_map:
        if name not in modules:
            near = nearest(name, modules, limit=1, cutoff=0.9) if len(modules) < 5_000 else None
            logger.warning("device_map: %s has no parameters%s", name, f": {near}" if near else "")


def _check_whole(plan: LoadPlan, placement: Placement, block_of: Callable[[str], str]) -> None:
    """Make sure that a map takes no block and no tie apart."""
    blocks: dict[str, dict[Place, str]] = {}
    for name in plan.assignments:
        if block := block_of(name):
            blocks.setdefault(block, {}).setdefault(placement.of(name), name)
    problems = [
        f"{block} is a block, and stays whole: {_told(split)}"
        for block, split in blocks.items()
        if len(split) > 1
    ]
    for name, to in _ties(plan):
        split = {placement.of(to): to, placement.of(name): name}
        if len(split) > 1:
            problems.append(f"{name} is tied to {to}: {_told(split)}")
    if problems:
        raise PlacementError(
            "the device map takes apart what is one",
            problems=problems,
            hint="name one place for each block, and the same one for parameters that are tied",
        )


def _told(split: Mapping[Place, str]) -> str:
    return ", ".join(f"{name} {'' if place.absent else 'on '}{place.name}" for place, name in split.items())


def _check_budgets(plan: LoadPlan, placement: Placement, rooms: Rooms) -> None:
    """Make sure that what the caller placed is within the caller's budgets."""
    held: dict[str, int] = {}
    for name, size in sizes_of(plan).items():
        place = placement.of(name)
        if not place.absent:
            held[place.name] = held.get(place.name, 0) + size
    problems = [
        f"{room.name}: {human_bytes(held[room.name])}, and may hold {human_bytes(room.budget or 0)}"
        for room in (*rooms.devices, *rooms.offload)
        if not room.holds(held.get(room.name, 0))
    ]
    problems += [f"{name}: it has no budget" for name in held if name not in rooms.places]
    if problems:
        raise PlacementError(
            "the device map puts more on a place than max_memory= allows",
            problems=problems,
            hint='pass device_map="auto", or leave max_memory out',
        )


def room_on_host(
    plan: LoadPlan, backend: Backend, placement: Placement, max_memory: Mapping[Any, object] | None
) -> int | None:
    """Return the bytes that a caller's budget leaves on the host beside the parameters that it holds; None without a budget."""
    if max_memory is None:
        return None
    rooms = rooms_of(backend, max_memory)
    hosts = (room for room in (*rooms.devices, *rooms.offload) if rooms.places[room.name].is_host)
    budget = next((room.budget for room in hosts), None)
    if budget is None:
        return None
    return budget - sum(size for name, size in sizes_of(plan).items() if placement.of(name).is_host)


def _ties(plan: LoadPlan) -> Iterator[tuple[str, str]]:
    """Yield the pairs that are one parameter, and those that may turn out to be."""
    yield from ((one.name, one.to) for one in plan.assignments.values() if one.state == "tied")
    yield from plan.compare


def sizes_of(plan: LoadPlan) -> dict[str, int]:
    """Return parameter -> the bytes that it takes in the finished model, 0 where it is tied to another or absent."""
    return {name: one.nbytes for name, one in plan.assignments.items()}


def with_values(device: Device) -> Device:
    """Return a device.

    Raises:
        PlacementError: If what lies on it has no values.
    """
    if device.is_abstract:
        raise PlacementError(
            f"the device {device.name!r} holds no values",
            expected="a device with memory",
            hint="name one that has (device_map=, device=), or leave the block that sets this one; "
            "from_config() makes a model without values",
        )
    return device
