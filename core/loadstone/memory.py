"""Telling memory that is not there, and how much was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from loadstone.backend import Device
from loadstone.dtypes import nbytes
from loadstone.errors import OutOfMemoryError
from loadstone.planning.records import Assignment
from loadstone.report import human_bytes


def out_of_memory(what: str, *, asked: int | None = None, found: str | None = None) -> OutOfMemoryError:
    """Make the error for memory that the system does not give.

    Args:
        what: What it is for, e.g. "for a tensor".
        asked: Bytes that were asked for, where that is known.
        found: What there is, where that is known.
    """
    return OutOfMemoryError(
        f"there is not enough memory {what}",
        expected=None if asked is None else f"{human_bytes(asked)} ({asked:,} bytes)",
        found=found or "the machine's memory, or a limit of this process such as `ulimit -v`, is used up",
        hint="free memory, raise the limit, or take a smaller model or a smaller dtype=",
    )


@contextlib.contextmanager
def memory_told(what: str, *, asked: int | None = None) -> Iterator[None]:
    """Turn Python's MemoryError into one that says what the memory was for, and how much was asked.

    Args:
        what: As in `out_of_memory`.
        asked: As there; without it, the error's own words are told.

    Raises:
        OutOfMemoryError: If memory runs out inside.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        raise out_of_memory(what, asked=asked, found=str(error) or None) from error


def check_room(assignments: Iterable[Assignment], device: Device) -> None:
    """Make sure that a device could hold the parameters that are to be drawn, were it empty.

    Raises:
        OutOfMemoryError: If it is smaller.
    """
    asked = sum(nbytes(one.dtype, one.shape) for one in assignments if one.state == "new")
    if device.total and asked > device.total:
        raise out_of_memory(
            f"on {device.name} to draw the parameters that no checkpoint holds",
            asked=asked,
            found=f"{human_bytes(device.total)} in all",
        )
