"""Texts beside tensors, in formats that have a place for one text: they are noted in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.names import BLANK
from loadstone.config.json_text import parse_json

MAX_TEXTS = 4_000_000
"""Bytes that they may have together."""


def noted(metadata: Mapping[str, str]) -> str:
    """Return the texts to hold as one; "" where there are none. `format` says what the file itself does."""
    texts = {key: text for key, text in metadata.items() if key not in ("format", *BLANK)}
    return json.dumps(texts, sort_keys=True) if texts else ""


def texts_of(data: bytes | str, place: Place) -> dict[str, str]:
    """Return the texts that were noted.

    Raises:
        CheckpointError: If they are none.
    """
    try:
        found = parse_json(data if isinstance(data, str) else data.decode(), most=10_000)
    except ValueError as error:
        place.fail("notes texts that are no JSON", cause=error)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        place.fail("notes something else than texts", expected="an object of texts")
    return found
