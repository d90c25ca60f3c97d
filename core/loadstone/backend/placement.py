"""Where parameters live: a placement says it of every one, by the names of modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from loadstone.backend.records import Device
from loadstone.errors import PlacementError, counted, nearest

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""What a caller may say in the place of a device: how to spread a model over all of them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place for parameters.

    Attributes:
        device: The device that holds them; None: they stay on disk, in the checkpoint's own files, or are nowhere.
        absent: Whether they are nowhere: they are not loaded, and what needs them does not run.
    """

    device: Device | None
    absent: bool = False

    @property
    def name(self) -> str:
        """The device's name, "disk" or "absent"."""
        if self.device is None:
            return "absent" if self.absent else "disk"
        return self.device.name

    @property
    def is_host(self) -> bool:
        """Whether it is the process's own memory."""
        return self.device is not None and self.device.is_host


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Parameter -> its place.

    Attributes:
        modules: Name of a module or parameter -> the place of all below it; of two that fit, the longer name decides, and
            "" is the rest.
        asked: Whether the caller asked for it with a `device_map`.
        main: The device that computes with what lies on none that computes: on disk, or on the host beside accelerators.

    Example:
        >>> cpu = Device(name="cpu", is_host=True, free=0, total=0)
        >>> Placement.on(cpu).of("model.norm.weight").name
        'cpu'
    """

    modules: Mapping[str, Place]
    asked: bool = False
    main: Device | None = None

    @classmethod
    def on(cls, device: Device, modules: Iterable[str] = ("",), *, asked: bool = False) -> Placement:
        """Return the placement of everything on one device, said of all modules or of each that is named."""
        return cls(modules=dict.fromkeys(modules, Place(device=device)), asked=asked, main=device)

    def of(self, parameter: str) -> Place:
        """Return the place of a parameter.

        Raises:
            KeyError: If the placement does not say.
        """
        if (
            len(self.modules) == 1 and "" in self.modules
        ):  # the simplest case, asked for each of 100,000 parameters
            return self.modules[""]
        name = parameter
        while name not in self.modules:
            if not name:
                raise KeyError(parameter)
            name = name.rpartition(".")[0]
        return self.modules[name]

    def device_of(self, parameter: str) -> Device:
        """Return the device that holds a parameter.

        Raises:
            KeyError: If the placement does not say.
            PlacementError: If the parameter stays on disk, or is absent.
        """
        place = self.of(parameter)
        device = place.device
        if device is None:
            raise PlacementError(
                f"{parameter} {'is absent' if place.absent else 'stays on disk'}, and no device holds it"
            )
        return device

    def runs_on(self, name: str) -> Device:
        """Return the device that computes with a parameter, or with a module's state that is in no checkpoint.

        Raises:
            KeyError: If the placement says neither where it is nor which device is the main one.
        """
        try:
            device = self.of(name).device
        except KeyError:  # maps say it of parameters
            device = None
        if self.main is None:
            return self.device_of(name)
        if device is None or (device.is_host and not self.main.is_host):
            return self.main
        return device

    @property
    def is_spread(self) -> bool:
        """Whether parameters lie in several places, or some on no device."""
        return len(self.places) > 1 or any(place.device is None for place in self.places)

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place, each once, in the order in which modules name them."""
        return tuple(dict.fromkeys(self.modules.values()))

    @property
    def absent(self) -> tuple[str, ...]:
        """The modules that are left out of the load."""
        return tuple(name for name, place in self.modules.items() if place.absent)

    @property
    def device_map(self) -> dict[str, str | None]:
        """Name of a module -> name of its device, "disk", or None where it is absent, as transformers' `hf_device_map` says it."""
        return {name: None if place.absent else place.name for name, place in self.modules.items()}

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(place.name for place in self.places))


def unknown_device(
    requested: object, devices: Sequence[Device], *, where: str | None = None
) -> PlacementError:
    """Make the error for a device that this machine does not have.

    Args:
        requested: What the caller named.
        devices: Those that there are.
        where: The argument concerned.
    """
    names = [device.name for device in devices]
    return PlacementError(
        f"there is no device {requested!r} here",
        where=where,
        found=f"{counted(len(names), 'device')} here: {', '.join(names)}",
        hint=nearest(str(requested), [*names, *STRATEGIES, "disk"])
        or f'name {"it" if len(names) == 1 else "one of these"}, or device_map="auto" for the first with room',
    )
