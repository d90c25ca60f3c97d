"""What the plugin claims: `format.raw` and `source.mem`."""

from collections.abc import Iterable

from loadstone.hookspecs import FormatRecord, SourceRecord, hookimpl


@hookimpl
def loadstone_formats() -> Iterable[FormatRecord]:
    """Offer raw numbers."""
    yield FormatRecord(name="raw", endings=(".raw",), format="loadstone_shelf.raw:Raw")


@hookimpl
def loadstone_sources() -> Iterable[SourceRecord]:
    """Offer what was put on the shelf."""
    yield SourceRecord(scheme="mem", open="loadstone_shelf.memory:open_memory")
