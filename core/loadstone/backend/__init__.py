"""The contract between core and a backend, and the lookup of a backend by name."""

from loadstone.backend.contract import Backend, get_backend, host_memory, must_fit
from loadstone.backend.model import Model
from loadstone.backend.placement import STRATEGIES, Place, Placement, unknown_device
from loadstone.backend.records import Capabilities, Device, Parameter

__all__ = [
    "STRATEGIES",
    "Backend",
    "Capabilities",
    "Device",
    "Model",
    "Parameter",
    "Place",
    "Placement",
    "get_backend",
    "host_memory",
    "must_fit",
    "unknown_device",
]
