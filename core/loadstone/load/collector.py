"""Keeping Python's garbage collector out of a load, and out of the imports that a class needs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_freezes = False
"""Whether somebody was seen to keep objects from the collector: all of them would have to be thawed with ours."""


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """Make no search for garbage meanwhile.

    A load, and an import, makes many objects that stay and no garbage in cycles. Each time their number grows by a quarter, the collector
    would look at every object of the process: 0.3 s for each search once a framework is imported.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        _grow_old()
        gc.enable()


def _grow_old() -> None:
    """Move what was made to the oldest generation; else the next small search would look at it all."""
    global _freezes
    # Counting goes through all that is frozen: 0.05 s with a framework, so that it is done until there is something to count.
    _freezes = _freezes or gc.get_freeze_count() > 0
    if _freezes:
        gc.collect(1)  # which looks at what is young
    else:
        gc.freeze()
        gc.unfreeze()
