"""The formats that loadstone brings."""

from __future__ import annotations

from collections.abc import Iterable

from loadstone.plugins.hookspecs import FormatRecord, hookimpl


@hookimpl
def loadstone_formats() -> Iterable[FormatRecord]:
    """Offer safetensors, in one file or in shards with an index."""
    yield FormatRecord(
        name="safetensors",
        endings=(".safetensors",),
        format="loadstone.checkpoint.formats.sharded:Safetensors",
    )
