"""The name under which authors of backends import the settings of `generate`."""

from loadstone.generate.settings import GenerationConfig

__all__ = ["GenerationConfig"]
