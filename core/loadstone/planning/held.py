"""What a placement comes to: the bytes of each place, those that a forward pass moves, and how fast that can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from loadstone.backend import Place, Placement
from loadstone.errors import ArgumentError, nearest
from loadstone.planning.place import sizes_of
from loadstone.planning.records import LoadPlan
from loadstone.planning.rooms import bytes_of


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one place holds.

    Attributes:
        place: The place.
        modules: The modules, or parameters, that the placement names it for.
        parameters: Number of its parameters.
        nbytes: Their bytes, tied ones once.
        moves: Whether a forward pass brings them to a device: all that is on disk, and what is on the host where there are
            accelerators.
    """

    place: Place
    modules: tuple[str, ...]
    parameters: int
    nbytes: int
    moves: bool


def held(plan: LoadPlan, placement: Placement) -> tuple[Held, ...]:
    """Return what each place holds, in the order in which modules name them; what is absent lies in none."""
    modules: dict[Place, list[str]] = {}
    for name, place in placement.modules.items():
        if not place.absent:
            modules.setdefault(place, []).append(name)
    number, nbytes = dict.fromkeys(modules, 0), dict.fromkeys(modules, 0)
    for name, size in sizes_of(plan).items():
        place = placement.of(name)
        if place.absent:
            continue
        number[place] += 1
        nbytes[place] += size
    accelerated = any(place.device is not None and not place.is_host for place in modules)
    return tuple(
        Held(
            place=place,
            modules=tuple(names),
            parameters=number[place],
            nbytes=nbytes[place],
            moves=place.device is None or (place.is_host and accelerated),
        )
        for place, names in modules.items()
    )


def bandwidths(said: object, places: tuple[Held, ...]) -> dict[str, int]:
    """Return place -> bytes a second, as a caller gave them; of one number, "" -> it, for all that moves.

    Args:
        said: Bytes or text such as "25GB"; or place -> one of these, where "cpu" is the host, "disk" the disk, and a device's
            name stands for its own memory.
        places: What there is, from `held`.

    Raises:
        ArgumentError: If a value is no number of bytes, or 0, or stands for no place.
    """
    known = {"cpu", "disk", *(one.place.name for one in places)}
    table: Mapping[Any, object] = said if isinstance(said, Mapping) else {"": said}
    found = {}
    for place, value in table.items():
        if place != "" and str(place) not in known:
            raise ArgumentError(
                f"bandwidth= names {place!r}, which holds nothing",
                expected=f"some of: {', '.join(sorted(known))}",
                hint=nearest(str(place), known)
                or 'name places of the device map, or give one number as "25GB"',
            )
        text = value.removesuffix("/s") if isinstance(value, str) else value
        what = f"bandwidth[{place!r}]" if place != "" else "bandwidth"
        found[str(place)] = bytes_of(text, what=what)
        if not found[str(place)]:
            raise ArgumentError(f"{what} is 0", expected='bytes a second, e.g. "25GB"')
    return found


def tokens_per_second(places: tuple[Held, ...], table: Mapping[str, int]) -> float | None:
    """Return how many forward passes a second the bandwidths allow at most; None where they bound nothing.

    Args:
        places: From `held`.
        table: From `bandwidths`.
    """
    seconds = 0.0
    for one in places:
        names = [one.place.name, *(["cpu"] if one.place.is_host else []), *([""] if one.moves else [])]
        rate = next((table[name] for name in names if name in table), None)
        seconds += one.nbytes / rate if rate else 0.0
    return 1 / seconds if seconds else None
