"""Parsing JSON that nobody vouches for: what it will cost is known before it is parsed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 100
"""Lists and objects inside one another; Python's own copying of values ends a little below 1,000."""

Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def parse_json(text: str, *, most: int, pairs: Pairs | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        most: Values that it may hold. They are counted before parsing, by what stands around them.
        pairs: Makes an object of its keys and values; None: a dict.

    Raises:
        ValueError: If it holds too many values, is nested too deeply, or has a number of more digits than Python takes;
            a `json.JSONDecodeError` if it is no JSON. The message is fit to be shown as what was found.

    Example:
        >>> parse_json('{"a": [1, 2]}', most=10)
        {'a': [1, 2]}
    """
    number = text.count(",") + text.count("[") + text.count("{")
    if number > most:
        raise ValueError(f"about {number:,} values, of which there may be {most:,}")
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("nesting too deep") from error
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"nesting too deep: more than {MAX_DEPTH} lists and objects inside one another")
        held = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [item for items in held for item in items if isinstance(item, dict | list)]
        depth += 1
