"""What the plugin claims: `format.gguf`."""

from __future__ import annotations

from collections.abc import Iterable

from loadstone.hookspecs import FormatRecord, hookimpl


@hookimpl
def loadstone_formats() -> Iterable[FormatRecord]:
    """Offer GGUF."""
    yield FormatRecord(name="gguf", endings=(".gguf",), format="loadstone_gguf.format:Gguf")
