"""Checkpoints that lie in object stores and behind servers, read through fsspec where they lie: nothing is written to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadstone_fsspec.source import open_address

__all__ = ["open_address"]


def __getattr__(name: str) -> object:
    if name == "open_address":
        from loadstone_fsspec.source import open_address

        return open_address
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
