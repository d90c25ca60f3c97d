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

__all__ = ["Backend", "Capabilities", "Device", "Parameter", "get_backend", "host_memory", "models_modules"]
