"""The name under which authors of plugins import the hooks and their records."""

from loadstone.plugins.hookspecs import (
    API,
    ArchitectureRecord,
    BackendRecord,
    FormatRecord,
    SourceRecord,
    hookimpl,
    hookspec,
    loadstone_architectures,
    loadstone_backends,
    loadstone_formats,
    loadstone_sources,
)

__all__ = [
    "API",
    "ArchitectureRecord",
    "BackendRecord",
    "FormatRecord",
    "SourceRecord",
    "hookimpl",
    "hookspec",
    "loadstone_architectures",
    "loadstone_backends",
    "loadstone_formats",
    "loadstone_sources",
]
