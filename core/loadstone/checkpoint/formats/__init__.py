"""Formats of files of weights: one module for each that loadstone brings; those of plugins come through the same door."""

from loadstone.checkpoint.formats.absent import (
    adapter_alone,
    adapter_beside,
    adapters,
    no_pickles,
    no_weights,
    none_of_format,
)
from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.lookup import format_named, format_of, formats, refuse_contested
from loadstone.checkpoint.formats.names import is_stored, is_weights, weight_names

__all__ = [
    "Format",
    "adapter_alone",
    "adapter_beside",
    "adapters",
    "format_named",
    "format_of",
    "formats",
    "is_stored",
    "is_weights",
    "no_pickles",
    "no_weights",
    "none_of_format",
    "refuse_contested",
    "weight_names",
]
