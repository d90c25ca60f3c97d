"""Loading: the story of a load, from a name to a model and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadstone.load.into import load_into
    from loadstone.load.story import from_pretrained, plan

__all__ = ["from_pretrained", "load_into", "plan"]


def __getattr__(name: str) -> Any:
    # The story imports numpy; whoever asks for the arguments alone does without.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from loadstone.load import into, story

    return getattr(into if name == "load_into" else story, name)
