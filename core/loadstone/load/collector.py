"""Keeping Python's garbage collector out of a load, and out of the imports that a class needs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


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
        if not gc.get_freeze_count():
            # What was made goes straight to the oldest generation; else the next small search would look at it all.
            gc.freeze()
            gc.unfreeze()
        gc.enable()
