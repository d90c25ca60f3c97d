"""Loading: the story of a load, from a name to a model and its report."""

from loadstone.load.story import from_pretrained, load_into, plan

__all__ = ["from_pretrained", "load_into", "plan"]
