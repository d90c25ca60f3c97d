"""The name under which authors of backends import what a model returns."""

from loadstone.model.outputs import ModelOutput

__all__ = ["ModelOutput"]
