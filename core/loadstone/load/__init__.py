"""Loading: the story of a load, from a name to a model and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadstone.lazily import lazily

if TYPE_CHECKING:
    from loadstone.load.into import load_into
    from loadstone.load.story import from_pretrained, plan

__all__ = ["from_pretrained", "load_into", "plan"]

# The story imports numpy; whoever asks for the arguments alone does without.
_HOMES = {
    "from_pretrained": "loadstone.load.story",
    "load_into": "loadstone.load.into",
    "plan": "loadstone.load.story",
}
__getattr__ = lazily(__name__, _HOMES)
