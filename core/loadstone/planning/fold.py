"""Folding names that differ only in a number, so that a list of a hundred layers reads as one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from loadstone.architectures import generalise


def fold(names: Iterable[str]) -> dict[str, list[str]]:
    """Return folded name -> the names it stands for, in order of appearance.

    Example:
        >>> list(fold(["layers.0.bias", "layers.1.bias", "layers.2.bias", "norm.weight"]))
        ['layers.{0...2}.bias', 'norm.weight']
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(generalise(name), []).append(name)
    return {_label(pattern, members): members for pattern, members in groups.items()}


def split_blocks(names: Iterable[str], present: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Split names into whole blocks of several and single names, so that a layer that is gone reads as one line.

    Args:
        names: What is missing, say.
        present: What is there.

    Returns:
        Block of which nothing is present (`model.layers.3`) -> how many names it has; and all other names.

    Example:
        >>> split_blocks(["a.0.x", "a.1.x", "a.1.y", "norm"], present=["a.0.y"])
        ({'a.1': 2}, ['a.0.x', 'norm'])
    """
    names = list(names)
    if not names:
        return {}, []
    kept = {_block(name) for name in present} | {""}
    sizes = Counter(block for name in names if (block := _block(name)) not in kept)
    whole = {block: size for block, size in sizes.items() if size > 1}
    return whole, [name for name in names if _block(name) not in whole]


def _block(name: str) -> str:
    """Return a name up to its first number, that included; "" where it has none."""
    pattern = generalise(name).split(".")
    return ".".join(name.split(".")[: pattern.index("{}") + 1]) if "{}" in pattern else ""


def _label(pattern: str, members: list[str]) -> str:
    if len(members) == 1:
        return members[0]
    columns = zip(*(name.split(".") for name in members), strict=True)
    segments = [
        _span(column) if kind == "{}" else kind
        for kind, column in zip(pattern.split("."), columns, strict=True)
    ]
    return ".".join(segments)


def _span(column: tuple[str, ...]) -> str:
    if "{}" in column:  # a name may hold what patterns are written with
        return "{}"
    numbers = sorted({int(segment) for segment in column})
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}...{numbers[-1]}}}"
    return "{" + ",".join(map(str, numbers[:4])) + (",..." if len(numbers) > 4 else "") + "}"
