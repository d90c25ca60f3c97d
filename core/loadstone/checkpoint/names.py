"""The names that the files of weights have."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"-\d{5,}-of-\d{5,}")


def weight_names(variant: str | None) -> tuple[str, ...]:
    """Return the names under which weights are looked for, the preferred first.

    The first is the one file of all weights, the others are an index of shards, which a variant has in two
    spellings: transformers' and the one that follows from the shards' names.

    Example:
        >>> weight_names(None)
        ('model.safetensors', 'model.safetensors.index.json')
    """
    if variant is None:
        return "model.safetensors", "model.safetensors.index.json"
    return (
        f"model.{variant}.safetensors",
        f"model.safetensors.index.{variant}.json",
        f"model.{variant}.safetensors.index.json",
    )


def file_names(number: int, *, variant: str | None) -> list[str]:
    """Return the names of as many files of weights as are to be written."""
    stem = _stem(variant)
    if number == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{part:05d}-of-{number:05d}.safetensors" for part in range(1, number + 1)]


def is_weights(name: str, variant: str | None) -> bool:
    """Return whether a file of this name holds weights of the variant, or is an index of them."""
    return name in weight_names(variant) or (
        name.startswith(f"{_stem(variant)}-")
        and name.endswith(".safetensors")
        and _NUMBERS.fullmatch(name.removeprefix(_stem(variant)).removesuffix(".safetensors")) is not None
    )


def weight_patterns(variant: str | None) -> list[str]:
    """Return shell patterns of the names that `is_weights` takes, for a server to match.

    Example:
        >>> weight_patterns(None)[-1]
        'model-?????-of-?????.safetensors'
    """
    return [*weight_names(variant), f"{_stem(variant)}-?????-of-?????.safetensors"]


def _stem(variant: str | None) -> str:
    return "model" if variant is None else f"model.{variant}"
