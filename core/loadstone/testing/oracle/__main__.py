"""Makes the oracle's folders: `python -m loadstone.testing.oracle --cache FOLDER [--only NAME ...] [--cases MODULE:TABLE]`.

It needs transformers and torch, and leaves a folder for each case, which the tests of a backend read without either. A
folder whose fingerprint still holds is kept, and torch is not even imported when all do.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from loadstone.testing import store
from loadstone.testing.case import Case
from loadstone.testing.reference import OURS, cases_of


def main() -> None:
    """Bring the folders of the chosen cases up to date."""
    parser = argparse.ArgumentParser(prog="python -m loadstone.testing.oracle", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="a folder is made in it for each case")
    parser.add_argument(
        "--cases", default=OURS, help=f"module:attribute of a table of cases; default: {OURS}"
    )
    parser.add_argument("--only", metavar="NAME", action="append", help="a case or a family; may be repeated")
    arguments = parser.parse_args()

    wanted = cases_of(arguments.cases, arguments.only or ())
    started = time.perf_counter()
    with store.locked(arguments.cache):
        missing = store.stale(arguments.cache, wanted)
        if missing:
            for case in missing:
                with store.replaced(arguments.cache / case.name) as folder:
                    _recorder(case)(case, folder, store.fingerprint(case))
    seconds = time.perf_counter() - started
    sys.stdout.write(f"oracle: {len(missing)} of {len(wanted)} cases made in {seconds:.1f} s\n")


def _recorder(case: Case) -> Callable[[Case, Path, str], None]:
    """Return what writes a case's folder: transformers' answers, or those that the case brings."""
    if case.answers:
        module, _, name = case.answers.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    from loadstone.testing.oracle.record import record

    return record


if __name__ == "__main__":
    main()
