"""Where parameters live: a placement says it of every one, by the names of modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from loadstone.backend.contract import Device


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place for parameters.

    Attributes:
        device: The device that holds them; None: they stay on disk, in the checkpoint's own files.
    """

    device: Device | None

    @property
    def name(self) -> str:
        """The device's name, or "disk"."""
        return "disk" if self.device is None else self.device.name

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

    Example:
        >>> cpu = Device(name="cpu", is_host=True, free=0, total=0)
        >>> Placement.on(cpu).of("model.norm.weight").name
        'cpu'
    """

    modules: Mapping[str, Place]

    @classmethod
    def on(cls, device: Device) -> Placement:
        """Return the placement of everything on one device."""
        return cls(modules={"": Place(device=device)})

    def of(self, parameter: str) -> Place:
        """Return the place of a parameter.

        Raises:
            KeyError: If the placement does not say.
        """
        name = parameter
        while name not in self.modules:
            if not name:
                raise KeyError(parameter)
            name = name.rpartition(".")[0]
        return self.modules[name]

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place, each once, in the order in which modules name them."""
        return tuple(dict.fromkeys(self.modules.values()))

    @property
    def device_map(self) -> dict[str, str]:
        """Name of a module -> name of its device, or "disk", as transformers' `hf_device_map` says it."""
        return {name: place.name for name, place in self.modules.items()}

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(place.name for place in self.places))
