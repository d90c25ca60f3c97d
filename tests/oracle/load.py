"""The oracle of these tests: loadstone's own cases, recorded under .cache, and the same saved by transformers 4."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np

from loadstone.testing import Case, Oracle, inputs
from tests.oracle import resave4

REPOSITORY = Path(__file__).parents[2]
ORACLE = REPOSITORY / ".cache" / "oracle"
ORACLE4 = REPOSITORY / ".cache" / "oracle4"

oracle = Oracle(ORACLE)
cases, folder, manifest, run, prepare = (
    oracle.cases,
    oracle.folder,
    oracle.manifest,
    oracle.run,
    oracle.prepare,
)


def fed(case: str, name: str = "plain") -> dict[str, np.ndarray]:
    """Inputs of the case: tokens or images alone."""
    return inputs.draw(oracle[case], name)


def saved_by_transformers4(case: Case | str) -> Path:
    """The case's checkpoint as transformers 4 saves it, with that version's spelling of config.json.

    Raises:
        LookupError: transformers 4 cannot hold this case; `resave4.NOT_IN_4` says why.
    """
    row = oracle.row(case)
    if row.name in resave4.NOT_IN_4:
        raise LookupError(f"{row.name} is not in transformers 4: {resave4.NOT_IN_4[row.name]}")
    prepare4(row.family)
    return ORACLE4 / row.name


@functools.cache
def prepare4(*families: str) -> None:
    """Make what is missing of what `saved_by_transformers4` gives."""
    prepare(*families)
    wanted = [case for case in cases() if not families or case.family in families]
    if not resave4.stale(ORACLE4, wanted):
        return
    only = [argument for family in families for argument in ("--only", family)]
    command = [
        sys.executable,
        str(Path(__file__).parent / "resave4.py"),
        "--out",
        str(ORACLE4),
        *only,
        "--oracle",
        str(ORACLE),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
