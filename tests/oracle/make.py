"""Makes the oracle's folders: `python tests/oracle/make.py --out FOLDER [--only FAMILY]`.

A folder whose fingerprint still holds is kept, and torch is not even imported when all do.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from tests.oracle import store
from tests.oracle.cases import CASES


def main() -> None:
    """Bring the folders of the chosen families up to date."""
    families = sorted({case.family for case in CASES.values()})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder is made in it for each case")
    parser.add_argument("--only", choices=families, action="append", help="make this family; may be repeated")
    arguments = parser.parse_args()

    wanted = [case for case in CASES.values() if case.family in (arguments.only or families)]
    started = time.perf_counter()
    with store.locked(arguments.out):
        missing = store.stale(arguments.out, wanted)
        if missing:
            from tests.oracle.record import record

            for case in missing:
                with store.replaced(arguments.out / case.name) as folder:
                    record(case, folder, store.fingerprint(case))
    print(f"oracle: {len(missing)} of {len(wanted)} cases made in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
