"""A progress bar for loads and saves that take over a second, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

DELAY = 1.0
"""Seconds before a bar appears."""


@contextlib.contextmanager
def byte_bar(*, total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Give a function to call with the number of bytes that have passed since its last call.

    Args:
        total: Bytes that will pass.
        what: The word before the bar.
    """
    if not sys.stderr.isatty():
        yield lambda number: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit="B", unit_scale=True, delay=DELAY, leave=False) as bar:
        yield bar.update
