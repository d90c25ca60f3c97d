"""What a plan says of each parameter and of each stored tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from loadstone.checkpoint.recipe import Recipe
from loadstone.dtypes import nbytes

ParameterState = Literal["loaded", "cast", "tied", "new", "absent"]
StoredState = Literal["used", "alias", "ignored", "unused"]

COUNTS_ANEW = "not stored, counts from 0"
"""Why a counter of training may be new; nothing is lost by it."""

MAY_LACK = "its class says that a checkpoint may lack it"
"""Why a parameter may be new that a checkpoint of its own class lacks."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The one state in which a parameter ends.

    Attributes:
        name: The parameter.
        state: "loaded" as it is stored, "cast" from another dtype, "tied" to another parameter, drawn as "new", or "absent":
            left out of the load, so that it has no values.
        dtype: Canonical dtype that it will have, or would; "" where it is tied.
        shape: Sizes of its axes.
        recipe: How it is made from stored tensors, where loaded or cast from a file.
        to: The parameter that it is tied to.
        why: What allows a new parameter.
        refused: Shape of the stored tensor in whose place it is new; None where there is none.
    """

    name: str
    state: ParameterState
    dtype: str = ""
    shape: tuple[int, ...] = ()
    recipe: Recipe | None = None
    to: str = ""
    why: str = ""
    refused: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the finished model; 0 where it is tied to another or absent."""
        return nbytes(self.dtype, self.shape) if self.dtype and self.state != "absent" else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The one state in which a stored tensor ends.

    Attributes:
        name: Its name in the checkpoint.
        state: "used", "alias" of another, "ignored" by a rule, or "unused".
        why: The rule, or what it is an alias of.
    """

    name: str
    state: StoredState
    why: str = ""


class StoredStates(Mapping[str, Stored]):
    """Stored tensor -> its state. Most are used, and the record of such a one is made when it is asked for.

    Args:
        tensors: The stored tensors, in file order.
        others: The states of those that are not used, and of aliases.
    """

    __slots__ = ("_others", "_tensors")

    def __init__(self, tensors: Collection[str], others: Mapping[str, Stored]) -> None:
        self._tensors, self._others = tensors, others

    def __getitem__(self, name: str) -> Stored:
        """Return the state of one."""
        other = self._others.get(name)
        if other is None and name not in self._tensors:
            raise KeyError(name)
        return other or Stored(name=name, state="used")

    def __iter__(self) -> Iterator[str]:
        """Yield the names in file order, aliases last."""
        yield from self._tensors
        yield from (name for name in self._others if name not in self._tensors)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._tensors) + sum(name not in self._tensors for name in self._others)

    def but(self, others: Mapping[str, Stored]) -> StoredStates:
        """Return the same with other states for some."""
        return StoredStates(self._tensors, {**self._others, **others})

    def __repr__(self) -> str:
        """Return what a plain dictionary of them would."""
        return repr(dict(self))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Which stored tensor becomes which parameter.

    Attributes:
        assignments: Parameter -> its state, in the model's order.
        stored: Stored tensor -> its state, in file order, aliases last.
        compare: Pairs of parameters that the configuration ties and the checkpoint stores twice: one if their
            bytes are equal, two with a warning if not.
        may_differ: Whether such a pair may be kept apart; False for a model in which it is one already.
    """

    assignments: Mapping[str, Assignment]
    stored: Mapping[str, Stored]
    compare: tuple[tuple[str, str], ...] = ()
    may_differ: bool = True

    def reads(self) -> Iterator[Assignment]:
        """Yield the assignments whose bytes come from a file."""
        return (assignment for assignment in self.assignments.values() if assignment.recipe is not None)

    @property
    def files(self) -> set[str]:
        """The files of which something is read; of the others nothing is needed."""
        return {info.file for one in self.reads() if one.recipe is not None for info in one.recipe.sources}

    def in_state(self, state: ParameterState) -> list[Assignment]:
        """Return the assignments in one state."""
        return [assignment for assignment in self.assignments.values() if assignment.state == state]

    def stored_in_state(self, state: StoredState) -> list[Stored]:
        """Return the stored tensors in one state."""
        return [stored for stored in self.stored.values() if stored.state == state]
