"""How tests read the oracle: `cases`, `folder`, `reference`, `run`, `saved_by_transformers4`.

The first request for a family makes what is missing, in a process of its own. No framework is imported here, so that a
test that reads the oracle runs with its own framework alone. numpy only.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tests.oracle import resave4, store
from tests.oracle.cases import CASES, Case

REPOSITORY = store.HERE.parents[1]
ORACLE = REPOSITORY / ".cache" / "oracle"
ORACLE4 = REPOSITORY / ".cache" / "oracle4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forward pass (or one generation) and what transformers answered.

    Attributes:
        name: `plain`, `left`, `cache`, ...
        inputs: By the names of the model's arguments; 0-d arrays stand for plain numbers.
        outputs: By the names of transformers' output fields; a tuple where the field has an entry per layer.
        valid: Whether an output of one token each counts, bool [B, T]; None where all do.
        gradients: Of the loss, by the checkpoint's names; empty but in `train`.
    """

    name: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray | tuple[np.ndarray, ...]]
    valid: np.ndarray | None
    gradients: Mapping[str, np.ndarray]


def cases(family: str | None = None, task: str | None = None) -> list[Case]:
    """The rows of the table, of one family or one task where asked."""
    return [case for case in CASES.values() if family in (None, case.family) and task in (None, case.task)]


def folder(case: Case | str) -> Path:
    """The case's checkpoint folder as transformers saved it, with reference.npz and manifest.json beside."""
    row = _row(case)
    prepare(row.family)
    return ORACLE / row.name


def manifest(case: Case | str) -> dict[str, Any]:
    """What manifest.json of the case holds."""
    return json.loads((folder(case) / store.MANIFEST).read_text())  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=8)
def reference(case: Case | str) -> Mapping[str, np.ndarray]:
    """Every array of the case by its key: RUN/input/NAME, RUN/output/FIELD[/LAYER], RUN/valid, RUN/gradient/NAME."""
    with np.load(folder(case) / "reference.npz") as arrays:
        return MappingProxyType(dict(arrays))


def run(case: Case | str, name: str) -> Run:
    """One run of the case.

    Args:
        case: The row or its name.
        name: One of the row's `runs`.

    Raises:
        KeyError: The case has no such run.
    """
    row = _row(case)
    if name not in row.runs:
        raise KeyError(f"{row.name} has no run {name!r}; it has {', '.join(row.runs)}")
    arrays = {
        key.removeprefix(f"{name}/"): array
        for key, array in reference(row.name).items()
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


def saved_by_transformers4(case: Case | str) -> Path:
    """The case's checkpoint as transformers 4 saves it, with that version's spelling of config.json.

    Raises:
        LookupError: transformers 4 cannot hold this case; `resave4.NOT_IN_4` says why.
    """
    row = _row(case)
    if row.name in resave4.NOT_IN_4:
        raise LookupError(f"{row.name} is not in transformers 4: {resave4.NOT_IN_4[row.name]}")
    prepare4(row.family)
    return ORACLE4 / row.name


def _row(case: Case | str) -> Case:
    return CASES[case] if isinstance(case, str) else case


def _by_layer(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | tuple[np.ndarray, ...]]:
    """`hidden_states/0`, `hidden_states/1`, ... become one tuple; the file keeps them in order."""
    layers: dict[str, list[np.ndarray]] = {}
    for key, array in fields.items():
        name, _, index = key.rpartition("/") if key.rpartition("/")[2].isdigit() else (key, "", "")
        layers.setdefault(name, []).append(array)
        if index and int(index) != len(layers[name]) - 1:
            raise ValueError(f"{key} is out of order in reference.npz")
    return {name: tuple(arrays) if f"{name}/0" in fields else arrays[0] for name, arrays in layers.items()}


@functools.cache
def prepare(*families: str) -> None:
    """Make what is missing of the families (of all, where none is named) in one process; others do it one by one."""
    if store.stale(ORACLE, _of(families)):
        _run_script("make.py", ORACLE, families)


@functools.cache
def prepare4(*families: str) -> None:
    """The same for what `saved_by_transformers4` gives."""
    prepare(*families)
    if resave4.stale(ORACLE4, _of(families)):
        _run_script("resave4.py", ORACLE4, families, "--oracle", str(ORACLE))


def _of(families: tuple[str, ...]) -> list[Case]:
    return [case for case in cases() if not families or case.family in families]


def _run_script(script: str, out: Path, families: tuple[str, ...], *more: str) -> None:
    only = [argument for family in families for argument in ("--only", family)]
    command = [sys.executable, str(store.HERE / script), "--out", str(out), *only, *more]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
