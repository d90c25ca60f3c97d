"""Parameters that a checkpoint holds in another arrangement: stacked, divided, transposed. Data, read in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from loadstone.checkpoint.recipe import Concatenate, Slice, Stack, Step, Transpose, Unstack
from loadstone.errors import ArgumentError

COUNTED = "{*}"
"""In a pattern, a number that counts from 0: there are as many tensors as there are such names."""


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """One tensor becomes several, one after the other along an axis, of the sizes that the parameters have there."""

    axis: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Stored tensors that become parameters of another arrangement, and go back to it when they are saved.

    Names are base-model patterns; what `{}` stands for is the same in all of them. A last step puts several tensors
    together or takes one apart; steps before it happen to each stored tensor.

    Attributes:
        stored: Names in checkpoints, in order; one that holds `{*}` stands for all that count from 0.
        parameters: Names in the model, in order.
        steps: What happens to the stored tensors: `Transpose`, then one of `Stack`, `Concatenate` and `Split`.

    Example:
        >>> experts = Arrangement(
        ...     stored=("layers.{}.experts.{*}.up.weight",), parameters=("layers.{}.experts.up",), steps=(Stack(0),)
        ... )
        >>> experts.group("layers.3.experts.up").stored_names(2)
        ['layers.3.experts.0.up.weight', 'layers.3.experts.1.up.weight']
    """

    stored: tuple[str, ...]
    parameters: tuple[str, ...]
    steps: tuple[Transpose | Stack | Concatenate | Split, ...]

    def __post_init__(self) -> None:
        """Check that it can be read in both directions.

        Raises:
            ArgumentError: If it cannot: tensors would be left over, or nobody could say how many there are.
        """
        one_stored = len(self.stored) == 1 and not self.counts
        fits = {
            "several stored tensors need a last step that puts them together": one_stored
            or self.joins is not None,
            "several parameters need a last step that takes a tensor apart": len(self.parameters) == 1
            or self.splits is not None,
            "what is taken apart is one stored tensor": self.splits is None or one_stored,
            "tensors that are counted are stacked, and nothing stands beside them": not self.counts
            or (isinstance(self.joins, Stack) and len(self.stored) == 1),
            "only the last step puts together or takes apart": all(
                isinstance(step, Transpose) for step in self.steps[:-1]
            ),
        }
        if problems := [rule for rule, kept in fits.items() if not kept]:
            raise ArgumentError(
                "an arrangement cannot be read in both directions", where=self.stored, problems=problems
            )

    def group(self, parameter: str) -> Group | None:
        """Return the group that a parameter belongs to; None for a parameter of another name."""
        for pattern in self.parameters:
            found = _bound(pattern, parameter)
            if found is not None:
                return Group(self, found)
        return None

    @property
    def counts(self) -> bool:
        """Whether there is one stored tensor for each number."""
        return any(COUNTED in pattern for pattern in self.stored)

    @property
    def joins(self) -> Stack | Concatenate | None:
        """The step that puts stored tensors together."""
        last = self.steps[-1] if self.steps else None
        return last if isinstance(last, Stack | Concatenate) else None

    @property
    def splits(self) -> Split | None:
        """The step that takes a stored tensor apart."""
        last = self.steps[-1] if self.steps else None
        return last if isinstance(last, Split) else None

    @property
    def transposes(self) -> tuple[Transpose, ...]:
        """The steps that happen to each stored tensor."""
        return tuple(step for step in self.steps if isinstance(step, Transpose))


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """An arrangement with names in the place of its patterns.

    Attributes:
        arrangement: The arrangement.
        bound: What its `{}` stand for, in order.
    """

    arrangement: Arrangement
    bound: tuple[str, ...]

    @property
    def parameter_names(self) -> list[str]:
        """Names in the model, in order."""
        return [_filled(pattern, self.bound) for pattern in self.arrangement.parameters]

    def stored_names(self, number: int) -> list[str]:
        """Return the names in checkpoints, in order, of as many tensors as there are for a pattern that counts."""
        return [
            _filled(pattern.replace(COUNTED, str(count)), self.bound)
            for pattern in self.arrangement.stored
            for count in range(number if COUNTED in pattern else 1)
        ]

    def number(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Return how many stored tensors a pattern that counts stands for, from the shapes of the parameters."""
        joins = self.arrangement.joins
        if joins is None or not self.arrangement.counts:
            return 1
        return shapes[self.parameter_names[0]][joins.axis] if isinstance(joins, Stack) else 1

    def loading(self, parameter: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Step, ...]:
        """Return the steps that make a parameter of the stored tensors."""
        splits = self.arrangement.splits
        if splits is None:
            return tuple(step for step in self.arrangement.steps if not isinstance(step, Split))
        sizes = [shapes[name][splits.axis] for name in self.parameter_names]
        place = self.parameter_names.index(parameter)
        start = sum(sizes[:place])
        return *self.arrangement.transposes, Slice(splits.axis, start, start + sizes[place])

    def saving(
        self, number: int, shapes: Mapping[str, tuple[int, ...]]
    ) -> Iterator[tuple[str, tuple[Step, ...]]]:
        """Yield the name of each stored tensor, and the steps that make it of the parameters.

        Args:
            number: As `number` returns it.
            shapes: Of the parameters.

        Raises:
            ArgumentError: If a parameter is not made of as many equal tensors.
        """
        back = tuple(step.inverse for step in reversed(self.arrangement.transposes))
        joins, splits = self.arrangement.joins, self.arrangement.splits
        names = self.stored_names(number)
        for place, name in enumerate(names):
            if isinstance(joins, Stack):
                yield name, (Unstack(joins.axis, place), *back)
            elif joins is not None:
                whole = shapes[self.parameter_names[0]][joins.axis]
                if whole % len(names):
                    raise ArgumentError(
                        f"{self.parameter_names[0]} cannot be taken apart into {len(names)} equal tensors",
                        expected=f"a multiple of {len(names)} along axis {joins.axis}",
                        found=whole,
                    )
                size = whole // len(names)
                yield name, (Slice(joins.axis, place * size, (place + 1) * size), *back)
            else:
                yield name, (*(() if splits is None else (Concatenate(splits.axis),)), *back)


def _bound(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return what the `{}` of a pattern stand for in a name; None where it does not fit."""
    wanted, found = pattern.split("."), name.split(".")
    if len(wanted) != len(found) or any(w not in ("{}", f) for w, f in zip(wanted, found, strict=True)):
        return None
    return tuple(f for w, f in zip(wanted, found, strict=True) if w == "{}")


def _filled(pattern: str, bound: Sequence[str]) -> str:
    rest = iter(bound)
    return ".".join(next(rest) if segment == "{}" else segment for segment in pattern.split("."))
