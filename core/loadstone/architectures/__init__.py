"""Architectures: one file per family, holding what is true of it in every framework.

A family's file defines its configuration classes, the function that resolves a configuration into a typed spec,
and `ARCHITECTURES`, the records that the engine reads. Adding a family takes one file here and one in each
backend's `models` folder; both are found by name.
"""

from loadstone.architectures._records import Architecture, Head, Tie

__all__ = ["Architecture", "Head", "Tie"]
