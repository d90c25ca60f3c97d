"""The name under which authors of plugins import the hooks and their records."""

from loadstone.plugins.hookspecs import (
    ArchitectureRecord,
    BackendRecord,
    hookimpl,
    hookspec,
    loadstone_architectures,
    loadstone_backends,
)

__all__ = [
    "ArchitectureRecord",
    "BackendRecord",
    "hookimpl",
    "hookspec",
    "loadstone_architectures",
    "loadstone_backends",
]
