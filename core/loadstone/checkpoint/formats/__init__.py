"""Formats of files of weights: one module for each that loadstone brings; those of plugins come through the same door."""

from loadstone.checkpoint.formats.absent import adapter_alone, adapter_beside, adapters, no_weights
from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.lookup import format_of, formats
from loadstone.checkpoint.formats.names import is_stored, is_weights, weight_names
from loadstone.checkpoint.formats.pickle.names import is_pickled

__all__ = [
    "Format",
    "adapter_alone",
    "adapter_beside",
    "adapters",
    "format_of",
    "formats",
    "is_pickled",
    "is_stored",
    "is_weights",
    "no_weights",
    "weight_names",
]
