"""The tests of a backend as pytest collects them: two for each case. pytest is imported when one of them is waited for.

from loadstone.testing import Attentions, Computes, HiddenStates, Masks, Oracle, Suite

class Toy(Computes, Masks, HiddenStates, Attentions):
    backend = "toy"
    ...

class TestToy(Suite):
    driver = Toy()
    oracle = Oracle(".cache/oracle")
    cases = ("llama-*", "bert-base")
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from loadstone.testing import mutation
from loadstone.testing.capabilities import Computes
from loadstone.testing.proofs import bits, proof
from loadstone.testing.reference import Oracle


class notimpl(contextlib.ContextDecorator):
    """What a backend cannot do yet: expected to fail, and a failure of its own once it passes.

    Example:
        >>> @notimpl("no masks yet")
        ... def test_masks():
        ...     raise NotImplementedError
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __enter__(self) -> None:
        """Begin what is expected to fail."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make a failure an expected one.

        Raises:
            AssertionError: If there was none.
        """
        import pytest

        if error is None:
            raise AssertionError(f"this works now: take notimpl({self.reason!r}) away")
        if isinstance(error, Exception):
            pytest.xfail(self.reason)


class Cases:
    """What the suites share: which cases there are.

    Attributes:
        driver: How arrays go in and out of the backend, and what it can.
        oracle: What was recorded; its table is what there is to prove.
        cases: Patterns of the names of the cases that this backend has; each must match one.
        todo: Pattern of `proof[CASE]` and `bits[CASE]` -> `notimpl(reason)`; each must match one.
    """

    driver: ClassVar[Computes]
    oracle: ClassVar[Oracle]
    cases: ClassVar[tuple[str, ...]] = ("*",)
    todo: ClassVar[Mapping[str, notimpl]] = {}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Give each test the cases of this backend."""
        if "case" in metafunc.fixturenames:
            # By class: the tests of one case follow one another.
            metafunc.parametrize("case", self.chosen(), scope="class")

    @classmethod
    def chosen(cls) -> list[str]:
        """Return the names of the cases.

        Raises:
            LookupError: If a pattern matches none.
        """
        names = [case.name for case in cls.oracle.cases()]
        tests = [f"{test}[{name}]" for test in ("proof", "bits") for name in names]
        unmatched = [pattern for pattern in cls.cases if not fnmatch.filter(names, pattern)]
        unmatched += [pattern for pattern in cls.todo if not any(_matches(test, pattern) for test in tests)]
        if unmatched:
            raise LookupError(f"{cls.__name__}: no case is named {', '.join(unmatched)}")
        return [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in cls.cases)]


class Suite(Cases):
    """The two tests of every class: subclass it, and say what is to be proved."""

    def test_proof(self, case: str) -> None:
        """See `proof`."""
        with self._expected("proof", case):
            proof(self.driver, self.oracle, case)

    def test_bits(self, case: str, tmp_path: Path) -> None:
        """See `bits`."""
        with self._expected("bits", case):
            bits(self.driver, self.oracle, case, tmp_path)

    def _expected(self, test: str, case: str) -> contextlib.AbstractContextManager[None]:
        found = [mark for pattern, mark in self.todo.items() if _matches(f"{test}[{case}]", pattern)]
        return found[0] if found else contextlib.nullcontext()


class MutationSuite(Cases):
    """Whether the proofs can tell, by a backend that passes them."""

    def test_every_tensor_moves_the_proof(self, case: str) -> None:
        """See `blind_tensors`."""
        row = self.oracle[case]
        mutation.assert_not_blind(row, mutation.blind_tensors(self.driver, self.oracle, row))

    def test_every_field_moves_the_proof(self, case: str) -> None:
        """See `blind_fields`."""
        row = self.oracle[case]
        others = mutation.pool(self.oracle)
        blind = mutation.blind_fields(
            self.driver, self.oracle, row, others, lambda field: not mutation.is_known(row, field)
        )
        mutation.assert_not_blind(row, blind)


def _matches(test: str, pattern: str) -> bool:
    """Whether a pattern fits; brackets stand for themselves."""
    return fnmatch.fnmatchcase(test, pattern.replace("[", "[[]"))
