"""Judging stored tensors that no parameter takes: ignored by a rule, a stranger, or a sign of a wrong configuration."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable

from loadstone.architectures import Architecture, Head, generalise, matches
from loadstone.errors import counted
from loadstone.planning.fold import fold, split_blocks
from loadstone.planning.names import NameMap
from loadstone.planning.problems import Kind, Problems
from loadstone.planning.records import Stored


class Surplus:
    """The rules for one load.

    Args:
        names: Translates stored names.
        architecture: Its `ignored` and `optional` patterns, and its other heads.
        head: The model class that is loaded.
        parameters: Names of the model's parameters.
        strict: True: any surplus is a problem but what no model needs; False: none; None: one that the architecture
            would know is.
        before_arguments: Names that the model would have without the caller's own arguments.
    """

    def __init__(
        self,
        names: NameMap,
        architecture: Architecture,
        head: Head,
        parameters: Collection[str],
        strict: bool | None,
        before_arguments: Collection[str],
    ) -> None:
        self._unwanted: list[str] = []
        self._names, self._architecture, self._head = names, architecture, head
        self._parameters, self._strict, self._before = parameters, strict, before_arguments

    def judge(self, stored: str) -> Stored:
        """Return the state of a stored tensor that no parameter takes."""
        base = self._names.stored_base(stored)
        if any(matches(pattern, base) for pattern in self._architecture.ignored):
            return Stored(name=stored, state="ignored", why="no model needs it")
        if self._strict:
            self._unwanted.append(stored)
        elif base in self._other_heads:
            return Stored(name=stored, state="ignored", why=f"of {self._other_heads[base]}")
        elif self._names.parameter(stored) in self._before:
            return Stored(name=stored, state="ignored", why="the caller's arguments leave it out")
        elif self._strict is None and generalise(base) in self._known:
            self._unwanted.append(stored)
        return Stored(name=stored, state="unused", why="no parameter of this name")

    def report(self, problems: Problems, *, present: Iterable[str]) -> None:
        """Record the tensors that must not be there, a layer of them or those that differ in a number as one.

        Args:
            problems: Where to record them.
            present: The stored tensors that are used.
        """
        if not self._unwanted:
            return
        kind: Kind = "strict" if self._strict else "surplus"
        reason = "and strict=True allows none" if self._strict else "the configuration has no room for it"
        surplus, single = split_blocks(self._unwanted, present)
        for label, blocks in fold(surplus).items():
            number = counted(sum(surplus[block] for block in blocks), "tensor")
            problems.add(kind, f"{label}: surplus, with {number}, {reason}")
        for label in fold(single):
            problems.add(kind, f"{label}: surplus, {reason}")

    @functools.cached_property
    def _other_heads(self) -> dict[str, str]:
        """Name without prefix -> the class of this architecture that has it and ours has not."""
        names: dict[str, str] = {}
        for head in self._architecture.heads:
            if head is self._head:
                continue
            base_prefix = f"{head.prefix}." if head.prefix else ""
            for name in (name for group in head.new for name in group):
                names.setdefault(name.removeprefix(base_prefix), head.class_name)
        return names

    @functools.cached_property
    def _known(self) -> set[str]:
        """Patterns of the names that this architecture has under some configuration."""
        own = {generalise(self._names.base(name)) for name in self._parameters}
        return own | set(self._architecture.optional)
