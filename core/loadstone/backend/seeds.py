"""The number from which fresh weights, new rows and sampled tokens are drawn: the caller's, else the framework's choice."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from loadstone.errors import ArgumentError

if TYPE_CHECKING:
    from loadstone.backend import Backend


def choose_seed(backend: Backend, seed: object = None, rngs: object = None) -> int:
    """Return the number from which a call draws.

    Args:
        backend: Its framework's generator decides where the caller says nothing, and moves on by one step.
        seed: A whole number: the same one gives the same values in every framework.
        rngs: A source of random numbers as the framework has it, e.g. an `nnx.Rngs`.

    Raises:
        ArgumentError: If both are given, the seed is no whole number, or the framework takes no such `rngs`.
    """
    if seed is None:
        return backend.draw_seed(rngs)
    if rngs is not None:
        raise ArgumentError("seed= and rngs= both say what is drawn", hint="pass one of them")
    return whole_number(seed)


def whole_number(seed: object) -> int:
    """Return a seed as an `int`.

    Raises:
        ArgumentError: If it is no whole number.
    """
    try:
        return operator.index(seed)  # type: ignore[arg-type]
    except TypeError as error:
        raise ArgumentError(
            "seed is no whole number",
            found=type(seed).__name__,
            hint="pass a number; for a generator of the framework's, seed that generator and leave seed= out",
        ) from error
