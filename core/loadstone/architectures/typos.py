"""Telling a model type that was mistyped from one that is another model's: mixtral is no misspelt mistral."""

from __future__ import annotations

from collections.abc import Iterable

OTHERS = frozenset(
    [
        "bart",
        "beit",
        "bit",
        "dpt",
        "gemma3n_text",
        "git",
        "glm4v",
        "ibert",
        "llava",
        "ministral",
        "mixtral",
        "mllama",
        "modernvbert",
        "molmo2",
        "mpt",
        "mt5",
        "opt",
        "regnet",
        "vilt",
        "vits",
    ]
)
"""Model types of transformers that differ from another one by a letter."""


def meant(model_type: str, known: Iterable[str]) -> str | None:
    """Return "did you mean a?" where a model type is a known one with a slip of the finger, or None.

    Example:
        >>> meant("llamma", ["llama", "gemma"]), meant("qwen9", ["qwen3"]), meant("BERT", ["bert"])
        ('did you mean llama?', None, 'did you mean bert?')
    """
    if model_type in OTHERS:
        return None
    near = [name for name in known if _letters(name) == _letters(model_type) or _slipped(model_type, name)]
    return f"did you mean {' or '.join(near)}?" if near else None


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _slipped(typed: str, name: str) -> bool:
    """Return whether one letter was left out, put in, mistaken or exchanged with its neighbour; numbers are meant."""
    start = 0
    while start < min(len(typed), len(name)) and typed[start] == name[start]:
        start += 1
    one, other = typed[start:], name[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    exchanged = len(one) == 2 and one == other[::-1]
    return (exchanged or max(len(one), len(other)) <= 1) and not any(c.isdigit() for c in one + other)
