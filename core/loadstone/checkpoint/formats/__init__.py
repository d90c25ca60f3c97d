"""Formats of files of weights: one module for each that loadstone brings; those of plugins come through the same door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadstone.lazily import lazily

if TYPE_CHECKING:
    from loadstone.checkpoint.formats.absent import (
        adapter_alone,
        adapter_beside,
        adapters,
        no_weights,
        none_of_format,
        not_of_format,
    )
    from loadstone.checkpoint.formats.format import Format
    from loadstone.checkpoint.formats.lookup import (
        format_named,
        format_of,
        formats,
        formats_asked,
        refuse_contested,
    )
    from loadstone.checkpoint.formats.names import is_foreign, is_stored, is_weights, weight_names
    from loadstone.checkpoint.formats.pickle.names import is_pickled

__all__ = [
    "Format",
    "adapter_alone",
    "adapter_beside",
    "adapters",
    "format_named",
    "format_of",
    "formats",
    "formats_asked",
    "is_foreign",
    "is_pickled",
    "is_stored",
    "is_weights",
    "no_weights",
    "none_of_format",
    "not_of_format",
    "refuse_contested",
    "weight_names",
]

# What loadstone claims to read is known before anything is read.
_HOMES = {
    "adapter_alone": "loadstone.checkpoint.formats.absent",
    "adapter_beside": "loadstone.checkpoint.formats.absent",
    "adapters": "loadstone.checkpoint.formats.absent",
    "no_weights": "loadstone.checkpoint.formats.absent",
    "none_of_format": "loadstone.checkpoint.formats.absent",
    "not_of_format": "loadstone.checkpoint.formats.absent",
    "Format": "loadstone.checkpoint.formats.format",
    "formats_asked": "loadstone.checkpoint.formats.lookup",
    "format_named": "loadstone.checkpoint.formats.lookup",
    "format_of": "loadstone.checkpoint.formats.lookup",
    "formats": "loadstone.checkpoint.formats.lookup",
    "refuse_contested": "loadstone.checkpoint.formats.lookup",
    "is_foreign": "loadstone.checkpoint.formats.names",
    "is_pickled": "loadstone.checkpoint.formats.pickle.names",
    "is_stored": "loadstone.checkpoint.formats.names",
    "is_weights": "loadstone.checkpoint.formats.names",
    "weight_names": "loadstone.checkpoint.formats.names",
}
__getattr__ = lazily(__name__, _HOMES)
