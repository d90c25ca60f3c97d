"""Budgets: the places that a model may be spread over, from what the backend has and what `max_memory=` says."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from loadstone.backend import Backend, Device, Place, unknown_device
from loadstone.errors import ArgumentError, PlacementError
from loadstone.planning.spread import Room

SHARE = 0.9
"""Part of an accelerator's free memory that parameters may take where the caller sets no budget; activations have the rest."""

DISK = Place(device=None)
ABSENT = Place(device=None, absent=True)

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?I?B)?\s*", re.IGNORECASE | re.ASCII)


def bytes_of(size: object, *, what: str) -> int:
    """Return a number of bytes that a caller gave as a number or as text.

    Args:
        size: 10_000, "10GiB" or "1.5 GB"; units of 1024 have an "i".
        what: Whose it is, for the error.

    Raises:
        ArgumentError: If it is neither.

    Example:
        >>> bytes_of("1.5GB", what="max_memory"), bytes_of("1GiB", what="max_memory")
        (1500000000, 1073741824)
    """
    if isinstance(size, int | float) and not isinstance(size, bool) and 0 <= size < float("inf"):
        return int(size)
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    # transformers counts "10Gb" and "10gb" in bits, which who writes it may not mean.
    if found is None or ((found[2] or "B").endswith("b") and "i" not in found[2].lower()):
        raise ArgumentError(
            f"{what} is no number of bytes",
            expected='bytes, or text such as "10GiB" or "500MB"',
            found=repr(size),
            hint="end the unit in a capital B: a small one is read as bits by others",
        )
    return int(float(found[1]) * UNITS[(found[2] or "B").upper()])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Where parameters may go.

    Attributes:
        devices: Those that compute, in order.
        offload: Those that hold what the devices cannot: the host, then the disk.
        places: Name of a room -> its place.
    """

    devices: tuple[Room, ...]
    offload: tuple[Room, ...]
    places: Mapping[str, Place]


def rooms_of(backend: Backend, max_memory: Mapping[Any, object] | None) -> Rooms:
    """Return the places to spread a model over.

    Without budgets these are the accelerators, with nine tenths of what is free, and the host, on which mapped tensors
    take no memory; without accelerators the host alone, or each of several. With budgets they are the places named there,
    and the disk, which needs no room: tensors stay in the checkpoint's files. `"disk": 0` excludes it.

    Args:
        backend: Knows its devices.
        max_memory: Device -> bytes, or text such as "10GiB"; a number is the n-th device of the backend's platform, whether
            this machine has it or not.

    Raises:
        ArgumentError: If `max_memory` is no mapping, names a device twice, or holds what is no number of bytes.
        PlacementError: If it names a device that is not there.
    """
    budgets = _free(backend) if max_memory is None else _given(backend, max_memory)
    disk = budgets.pop("disk", (DISK, None))
    hosts = {name for name, (place, _) in budgets.items() if place.is_host}
    if len(hosts) == len(budgets):  # they compute themselves
        hosts = set()
    rooms = [Room(name=name, budget=budget) for name, (_, budget) in budgets.items()]
    return Rooms(
        devices=tuple(room for room in rooms if room.name not in hosts),
        offload=(*(room for room in rooms if room.name in hosts), Room(name="disk", budget=disk[1])),
        places={name: place for name, (place, _) in budgets.items()} | {"disk": DISK},
    )


def nth_device(backend: Backend, number: object) -> Device | None:
    """Return the n-th device of a backend's platform: of the accelerators, or of several hosts where there are none."""
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    devices = platform_of(backend.devices())
    return devices[number] if 0 <= number < len(devices) else None


def platform_of(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices that numbers count: accelerators, else hosts where there are several."""
    accelerators = tuple(device for device in devices if not device.is_host)
    return accelerators or (tuple(devices) if len(devices) > 1 else ())


def _free(backend: Backend) -> dict[str, tuple[Place, int | None]]:
    devices = backend.devices()
    hosts = [device for device in devices if device.is_host]
    used = [device for device in devices if not device.is_host]
    used += hosts[:1] if used else hosts
    return {
        device.name: (Place(device=device), None if device.is_host else int(device.free * SHARE))
        for device in used
    }


def _given(backend: Backend, max_memory: Mapping[Any, object]) -> dict[str, tuple[Place, int | None]]:
    if not isinstance(max_memory, Mapping) or not max_memory:
        raise ArgumentError(
            "max_memory= names no device",
            expected='device -> bytes, e.g. {0: "10GiB", "cpu": "30GiB"}',
            found=repr(max_memory),
        )
    found: dict[str, tuple[Place, int | None]] = {}
    for key in sorted(max_memory, key=_rank):
        budget = bytes_of(max_memory[key], what=f"max_memory[{key!r}]")
        place = DISK if key == "disk" else Place(device=_device(backend, key, max_memory, budget))
        if place.name in found:
            raise ArgumentError(
                f"max_memory= names {place.name} twice", found=", ".join(map(repr, max_memory))
            )
        found[place.name] = (place, budget)
    return found


def _rank(key: object) -> tuple[int, int]:
    """Order devices as transformers does: by number, then others as they come, then the host."""
    if isinstance(key, int):
        return (0, key)
    return (2 if str(key).partition(":")[0].lower() == "cpu" else 1, 0)


def _device(backend: Backend, key: object, max_memory: Mapping[Any, object], budget: int) -> Device:
    """Return the device of a key; a number beyond those that are here stands for a device of another machine."""
    if not isinstance(key, int) or isinstance(key, bool) or key < 0:
        try:
            return backend.device(key)
        except PlacementError:
            raise unknown_device(key, backend.devices(), where="max_memory=") from None
    device = nth_device(backend, key)
    # Beside a budget for the host, numbers are accelerators.
    if device is None or (device.is_host and "cpu" in max_memory):
        return Device(name=str(key), is_host=False, free=budget, total=budget, is_abstract=True)
    return device
