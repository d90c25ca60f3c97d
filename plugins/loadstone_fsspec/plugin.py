"""The schemes that fsspec opens. Neither fsspec nor a client of a store is imported here."""

from __future__ import annotations

from collections.abc import Iterable

from loadstone.hookspecs import SourceRecord, hookimpl


@hookimpl
def loadstone_sources() -> Iterable[SourceRecord]:
    """Offer object stores, servers and memory; `file` is loadstone's own, which maps what lies on this machine."""
    for scheme in ("s3", "gs", "memory", "http", "https"):
        yield SourceRecord(scheme=scheme, open="loadstone_fsspec.source:open_source")
    yield SourceRecord(scheme="hf", open="loadstone_fsspec.source:open_hf_source")
