"""The sources that loadstone brings: folders of this machine, and the Hub."""

from __future__ import annotations

from collections.abc import Iterable

from loadstone.plugins.hookspecs import SourceRecord, hookimpl


@hookimpl
def loadstone_sources() -> Iterable[SourceRecord]:
    """Offer `file`, which also opens a bare path, and `hub`, which also opens `org/name`."""
    yield SourceRecord(scheme="file", open="loadstone.source.local:open_file_source")
    yield SourceRecord(scheme="hub", open="loadstone.source.hub:open_hub_source")
