"""Holding a model against its plan once it is filled: what a backend says that it did is looked at, not believed.

Every way to a model ends here. Names, shapes, dtypes and ties come from one walk over the model; of the values a few
bytes of a few tensors are compared with what was put. A tensor that still has the memory that it was given is right
by that alone: so nothing of a mapped file is read.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loadstone.backend import Backend, Parameter, Placement
from loadstone.dtypes import nbytes
from loadstone.errors import BackendError, counted
from loadstone.planning.records import Assignment
from loadstone.plugins import backend_claim

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor

TENSORS = 16
"""Tensors whose values are compared at most."""

LARGEST = 1024 * 1024
"""Bytes of a tensor that may be copied back from a device for it."""

PLACES, RUN = 8, 8
"""Places of a tensor that are compared, and the bytes at each."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was put under one name: its bytes at a few places, or the tensor itself, of which nothing is read yet."""

    address: int
    sample: bytes
    tensor: HostTensor | None


class Witness:
    """Remembers a little of what is put into a model, and holds the finished model against it and against the plan.

    Args:
        backend: Whose model it is.
        placement: Where the parameters go.
        assignments: Parameter -> its state, as planned.
    """

    def __init__(self, backend: Backend, placement: Placement, assignments: Mapping[str, Assignment]) -> None:
        self.backend = backend
        shared = all(place.is_host for place in placement.places) and backend.capabilities.aliases
        self._wanted = frozenset(_chosen(assignments.values(), any_size=shared))
        self._seen: dict[str, _Seen] = {}

    def see(self, tensor: HostTensor, *, stays: bool = False) -> None:
        """Remember a tensor that is about to be put; `stays`: its memory is somebody's who keeps it."""
        if tensor.name in self._wanted:
            kept = tensor if tensor.mapped or stays else None
            sample = _sample(tensor) if kept is None else b""
            self._seen[tensor.name] = _Seen(address=tensor.address, sample=sample, tensor=kept)

    def verify(
        self,
        model: Any,
        assignments: Mapping[str, Assignment],
        *,
        before: Mapping[str, Parameter] | None = None,
    ) -> None:
        """Hold a finished model against the plan.

        Args:
            model: It.
            assignments: Parameter -> its state, as it was carried out.
            before: What the model had where it had values already: what is not assigned stays so.

        Raises:
            BackendError: If names, shapes, dtypes, ties or values are not those of the plan.
        """
        found = self.backend.parameters(model)
        problems = [*_named(found, before or assignments), *_typed(found, assignments, before or {})]
        if not problems:
            problems = [*_joined(found, _owners(assignments, before or {})), *self._changed(model)]
        if problems:
            claim = backend_claim(self.backend.asked)
            raise BackendError(
                f"the backend {self.backend.asked!r} did not do with {type(model).__name__} what it was told: "
                f"{counted(len(problems), 'parameter')}",
                where=f"{claim.value} of {claim.distribution}",
                problems=problems,
                hint="report it to the author of the plugin; the model is not to be used",
            )

    def _changed(self, model: Any) -> Iterator[str]:
        for name, seen in self._seen.items():
            held = self.backend.read(model, name)
            if held.address == seen.address:
                continue
            if _sample(held) != (seen.sample if seen.tensor is None else _sample(seen.tensor)):
                yield f"{name}: holds other values than were put there"


def _chosen(assignments: Iterable[Assignment], *, any_size: bool) -> Iterator[str]:
    """Yield a few parameters that are put: one of each dtype and shape first, then some spread over the rest."""
    sizes = {a.name: nbytes(a.dtype, a.shape) for a in assignments if a.dtype}
    held = [a for a in assignments if sizes.get(a.name)]
    small = [a for a in held if any_size or sizes[a.name] <= LARGEST]
    small = small or sorted(held, key=lambda a: sizes[a.name])[:1]
    kinds = {(a.dtype, a.shape): a.name for a in reversed(small)}
    spread = (small[i * len(small) // TENSORS].name for i in range(TENSORS if small else 0))
    yield from list(dict.fromkeys([*reversed(kinds.values()), *spread]))[:TENSORS]


def _sample(tensor: HostTensor) -> bytes:
    last = max(0, tensor.nbytes - RUN)
    places = sorted({last * i // (PLACES - 1) for i in range(PLACES)})
    return b"".join(tensor.data[place : place + RUN].tobytes() for place in places)


def _named(found: Mapping[str, Parameter], expected: Mapping[str, object]) -> Iterator[str]:
    if found.keys() != expected.keys():
        yield from (f"{name}: is no longer there" for name in expected if name not in found)
        yield from (f"{name}: was not there before" for name in found if name not in expected)


def _typed(
    found: Mapping[str, Parameter], assignments: Mapping[str, Assignment], before: Mapping[str, Parameter]
) -> Iterator[str]:
    for name, parameter in found.items():
        wanted: Assignment | Parameter | None = assignments.get(name)
        if wanted is None or not wanted.dtype:  # kept, or the parameter that it is tied to says it
            wanted = before.get(name)
        if wanted is None:
            continue
        if parameter.shape != wanted.shape:
            yield f"{name}: expected shape {list(wanted.shape)}, found {list(parameter.shape)}"
        elif parameter.dtype != wanted.dtype:
            yield f"{name}: expected {wanted.dtype}, found {parameter.dtype}"


def _owners(assignments: Mapping[str, Assignment], before: Mapping[str, Parameter]) -> dict[str, str]:
    """Return parameter -> one name for all that are one with it; those that are tied to nothing are left out."""
    owners: dict[str, str] = {}
    pairs = [(a.name, a.to) for a in assignments.values() if a.to and (not before or a.to in assignments)]
    first: dict[int, str] = {}
    pairs += [
        (name, first.setdefault(p.identity, name)) for name, p in before.items() if p.identity is not None
    ]
    for one, other in pairs:
        low, high = root(owners, one), root(owners, other)
        if low != high:
            owners[low] = high
    return {name: root(owners, name) for pair in pairs for name in pair}


def root(ties: Mapping[str, str], name: str) -> str:
    """Return the parameter at the end of a chain of ties.

    Example:
        >>> root({"a": "b", "b": "c"}, "a"), root({}, "a")
        ('c', 'a')
    """
    while name in ties:
        name = ties[name]
    return name


def _joined(found: Mapping[str, Parameter], owners: Mapping[str, str]) -> Iterator[str]:
    """Yield the parameters that are tied and should not be, and those that should be tied and are not."""
    identities = sorted(p.identity for p in found.values() if p.identity is not None)
    shared = {one for one, other in itertools.pairwise(identities) if one == other}
    held_by: dict[int, str] = {}
    for name, parameter in found.items():
        owner = owners.get(name, name)
        identity = parameter.identity
        if owner != name and (identity is None or identity != found[owner].identity):
            yield f"{name}: is not tied to {owner}"
        elif identity in shared and (other := held_by.setdefault(identity, owner)) != owner:
            yield f"{name}: is one with {other}, and nothing ties them"
