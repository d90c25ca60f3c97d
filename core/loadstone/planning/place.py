"""Placing: which device a model goes to."""

from __future__ import annotations

from collections.abc import Mapping

from loadstone.backend import Backend, Device, Placement
from loadstone.dtypes import nbytes
from loadstone.errors import PlacementError
from loadstone.planning.records import LoadPlan

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def place(plan: LoadPlan, backend: Backend, device_map: object) -> Placement:
    """Return where each parameter goes: so far one device holds the whole model.

    Args:
        plan: What will be loaded.
        backend: Knows its devices.
        device_map: None: the backend's default device; a device; module -> device, where all are one device; or
            "auto": the first device that has room.

    Raises:
        PlacementError: If the device is not there or holds no values, or the map would take more than one or leaves
            parameters out.
    """
    modules = device_map if isinstance(device_map, Mapping) else ("",)
    return Placement.on(_device(plan, backend, device_map), modules, asked=device_map is not None)


def _device(plan: LoadPlan, backend: Backend, device_map: object) -> Device:
    if isinstance(device_map, Mapping) and set(device_map) != {""}:
        return _mapped(plan, backend, device_map)
    if isinstance(device_map, Mapping):
        device_map = device_map[""]
    if device_map == "disk":
        raise _several('device_map="disk"')
    if device_map not in STRATEGIES:
        return with_values(backend.device(device_map))
    if device_map != "auto":
        raise _several(f"device_map={device_map!r}")
    size = model_bytes(plan)
    devices = backend.devices()
    for device in devices:
        # On the host a mapping takes no memory, and whatever else does has its own bound.
        if device.is_host or device.free >= size:
            return device
    raise PlacementError(
        "no single device holds the model",
        expected=f"{size} bytes free",
        found=", ".join(f"{device.name}: {device.free}" for device in devices),
        hint="spreading a model over several devices is not there yet; pass a smaller dtype=",
    )


def _mapped(plan: LoadPlan, backend: Backend, device_map: Mapping[str, object]) -> Device:
    """Return the one device of a map; its names match parameters at dots, and "" matches all."""
    several = _several(f"a device map of {len(device_map)} entries")
    if "disk" in device_map.values():
        raise several
    uncovered = [name for name in plan.assignments if not any(_covers(path, name) for path in device_map)]
    if uncovered:
        raise PlacementError(
            "the device map names no device for some of the parameters",
            expected="a device for each module, or for everything under the name ''",
            problems=uncovered,
            hint='add them, or pass {"": device}',
        )
    devices = {device.name: device for device in map(backend.device, device_map.values())}
    if len(devices) > 1:
        raise several
    return with_values(next(iter(devices.values())))


def _covers(path: str, name: str) -> bool:
    return path in ("", name) or name.startswith(f"{path}.")


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


def model_bytes(plan: LoadPlan) -> int:
    """Return the bytes of the finished model's parameters, tied ones once."""
    kept = (a for a in plan.assignments.values() if a.state in ("loaded", "cast", "new"))
    return sum(nbytes(assignment.dtype, assignment.shape) for assignment in kept)


def _several(what: str) -> PlacementError:
    return PlacementError(
        f"{what} spreads a model over devices, which is not there yet",
        expected='"auto", one device such as "cpu" or "cuda", or a map to one device',
        hint="leave device_map out, or name one device",
    )
