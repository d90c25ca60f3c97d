"""How far a load is; and a progress bar for loads and saves that take over a second, on a terminal only."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator

DELAY = 1.0
"""Seconds before a bar appears."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a load is.

    Attributes:
        read: Bytes that were read.
        total: Bytes to read.
        fault: What ended the load before its end; None: nothing did.
    """

    read: int
    total: int
    fault: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether everything has come."""
        return self.fault is None and self.read >= self.total

    @property
    def fraction(self) -> float:
        """The part that was read, 0 to 1."""
        return self.read / self.total if self.total else 1.0


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
