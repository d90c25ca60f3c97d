"""A progress bar for loads and saves that take over a second, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor

DELAY = 1.0
"""Seconds before a bar appears."""


def progress(tensors: Iterable[HostTensor], *, total: int, what: str) -> Iterator[HostTensor]:
    """Yield tensors unchanged, showing how many of `total` bytes have passed."""
    if not sys.stderr.isatty():
        yield from tensors
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit="B", unit_scale=True, delay=DELAY, leave=False) as bar:
        for tensor in tensors:
            yield tensor
            bar.update(tensor.nbytes)
