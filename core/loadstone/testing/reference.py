"""What the oracle has recorded: `Oracle` makes what is missing, in a process of its own, and reads the rest.

No framework is imported here, so that a test that reads the oracle runs with its own framework alone. numpy only.
"""

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from loadstone.testing import store
from loadstone.testing.case import Case

OURS = "loadstone.testing.cases:CASES"
"""The table of loadstone's own model types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forward pass (or one generation) and what the oracle answered.

    Attributes:
        name: `proof`, `plain`, `cache`, ...
        inputs: By the names of the model's arguments; 0-d arrays stand for plain numbers.
        outputs: By the names of transformers' output fields; a tuple where the field has an entry per layer.
        valid: Whether an output of one token each counts, bool [B, T]; None where all do.
        gradients: Of the loss, by the checkpoint's names; empty but in `proof`.
    """

    name: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray | tuple[np.ndarray, ...]]
    valid: np.ndarray | None
    gradients: Mapping[str, np.ndarray]


def cases_of(table: str, names: Iterable[str] = ()) -> list[Case]:
    """Return the cases of a table.

    Args:
        table: "module:attribute" of a mapping of name -> case.
        names: Of cases or of families; all where there are none.

    Raises:
        KeyError: If a name is of neither.
    """
    module, _, attribute = table.partition(":")
    cases: list[Case] = list(getattr(importlib.import_module(module), attribute).values())
    known = {name for case in cases for name in (case.name, case.family)}
    if unknown := [name for name in names if name not in known]:
        raise KeyError(f"no case and no family of {table}: {', '.join(unknown)}")
    wanted = set(names) or known
    return [case for case in cases if wanted & {case.name, case.family}]


class Oracle:
    """A table of cases, and the folder where what was recorded of them lies.

    Example:
        >>> from loadstone.testing import Oracle
        >>> oracle = Oracle(".cache/oracle")
        >>> [case.name for case in oracle.cases("bert", "masked-lm")]
        ['bert-masked-lm', 'bert-masked-lm-untied']
    """

    def __init__(self, cache: str | Path, cases: str = OURS) -> None:
        """Name the folder, and the table.

        Args:
            cache: The first request for a case makes it here, for which transformers and torch must be installed.
            cases: "module:attribute" of a mapping of name -> case; the process that records them imports it too.
        """
        self.cache = Path(cache)
        self.table = cases
        self._rows = {case.name: case for case in cases_of(cases)}
        self._prepared: set[str] = set()

    def __getitem__(self, name: str) -> Case:
        return self._rows[name]

    def cases(self, family: str | None = None, task: str | None = None) -> list[Case]:
        """Return the rows of the table, of one family or one task where asked."""
        return [c for c in self._rows.values() if family in (None, c.family) and task in (None, c.task)]

    def prepare(self, *families: str) -> None:
        """Make what is missing of the families (of all, where none is named) in one process; others do it one by one.

        Raises:
            RuntimeError: If that process fails.
        """
        wanted = [case for case in self._rows.values() if not families or case.family in families]
        names = {case.name for case in wanted}
        if names <= self._prepared:
            return
        if store.stale(self.cache, wanted):
            self._record(families)
        self._prepared |= names

    def _record(self, families: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "loadstone.testing.oracle", "--cache", str(self.cache)]
        command += ["--cases", self.table, *(word for name in families for word in ("--only", name))]
        # A table that this process has found is found there too.
        path = os.pathsep.join(filter(None, sys.path))
        env = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")

    def folder(self, case: Case | str) -> Path:
        """Return the case's checkpoint folder as the oracle saved it, with what it recorded beside."""
        row = self.row(case)
        self.prepare(row.family)
        return self.cache / row.name

    def row(self, case: Case | str) -> Case:
        """Return a case by its name."""
        return self._rows[case] if isinstance(case, str) else case

    def manifest(self, case: Case | str) -> dict[str, Any]:
        """Return what manifest.json of the case holds."""
        return json.loads((self.folder(case) / store.MANIFEST).read_text())  # type: ignore[no-any-return]

    def reference(self, case: Case | str) -> Mapping[str, np.ndarray]:
        """Return every array by its key: RUN/input/NAME, RUN/output/FIELD[/LAYER], RUN/valid, RUN/gradient/NAME."""
        return _arrays(self.folder(case) / store.REFERENCE)

    def run(self, case: Case | str, name: str) -> Run:
        """Return one run of the case.

        Args:
            case: The row or its name.
            name: One of those `recorded`.

        Raises:
            KeyError: The case has no such run.
        """
        row = self.row(case)
        if name not in row.recorded:
            raise KeyError(f"{row.name} has no run {name!r}; it has {', '.join(row.recorded)}")
        arrays = {
            key.removeprefix(f"{name}/"): array
            for key, array in self.reference(row).items()
            if key.startswith(f"{name}/")
        }

        def named(kind: str) -> dict[str, np.ndarray]:
            return {key.removeprefix(kind): array for key, array in arrays.items() if key.startswith(kind)}

        return Run(
            name=name,
            inputs=named("input/"),
            outputs=_by_layer(named("output/")),
            valid=arrays.get("valid"),
            gradients=named("gradient/"),
        )


@functools.lru_cache(maxsize=8)
def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path) as arrays:
        return MappingProxyType(dict(arrays))


def _by_layer(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | tuple[np.ndarray, ...]]:
    """`hidden_states/0`, `hidden_states/1`, ... become one tuple; the file keeps them in order."""
    layers: dict[str, list[np.ndarray]] = {}
    for key, array in fields.items():
        name, _, index = key.rpartition("/") if key.rpartition("/")[2].isdigit() else (key, "", "")
        layers.setdefault(name, []).append(array)
        if index and int(index) != len(layers[name]) - 1:
            raise ValueError(f"{key} is out of order in {store.REFERENCE}")
    return {name: tuple(arrays) if f"{name}/0" in fields else arrays[0] for name, arrays in layers.items()}
