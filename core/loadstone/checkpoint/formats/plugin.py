"""The formats that loadstone brings."""

from __future__ import annotations

from collections.abc import Iterable

from loadstone.plugins.hookspecs import FormatRecord, hookimpl


@hookimpl
def loadstone_formats() -> Iterable[FormatRecord]:
    """Offer safetensors, then what `torch.save` writes, each in one file or in shards with an index."""
    yield FormatRecord(
        name="safetensors",
        endings=(".safetensors",),
        format="loadstone.checkpoint.formats.sharded:Safetensors",
    )
    yield FormatRecord(
        name="pickle",
        endings=(".bin", ".pt", ".pth"),
        format="loadstone.checkpoint.formats.pickle.format:Pickle",
    )
