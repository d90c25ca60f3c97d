"""The contract between core and a backend, and the lookup of a backend by name."""

from loadstone.backend.contract import (
    Backend,
    Capabilities,
    Device,
    Parameter,
    get_backend,
    host_memory,
    models_modules,
)
from loadstone.backend.model import Model

__all__ = [
    "Backend",
    "Capabilities",
    "Device",
    "Model",
    "Parameter",
    "get_backend",
    "host_memory",
    "models_modules",
]
