"""Runs the tests, each folder in a process of its own, so that a backend's tests have their framework to themselves.

    $ python tests/run.py             # all
    $ python tests/run.py core torch  # these

Three processes run at a time. What a folder said is shown when it has finished; the last lines add everything up.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
FOLDERS = ("core", "neighbours", "packaging", "flax", "tensorflow", "torch", "plugins", "together", "oracle")
"""In the order in which they start: the longest first, but for those that need no oracle, which is made meanwhile."""

NEED_ORACLE = {"torch", "tensorflow", "flax", "oracle", "together", "plugins"}
MAKE_ORACLE = "from tests.oracle import load, real; load.prepare4(); real.prepare()"

DURATIONS = "from tests.oracle.support import durations; print(durations())"

AT_A_TIME = 3  # on two processors: each waits now and then for a file or a process that it has started
# Threads of PyTorch and numpy that outnumber the cores wait for one another most of the time.
THREADS = str(max(1, (os.cpu_count() or 1) // AT_A_TIME))
ENVIRONMENT = {"OMP_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS, **os.environ}
# A hundred processes import frameworks, each of thousands of modules: they are compiled once, beside all else that tests make.
ENVIRONMENT["PYTHONPYCACHEPREFIX"] = str(TESTS.parent / ".cache" / "bytecode")
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)

NOTHING_COLLECTED = 5
"""pytest's exit status where there was nothing to run, e.g. because a framework is missing on a laptop."""

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one folder's tests came to.

    Attributes:
        folder: Its name.
        output: All that pytest said.
        status: pytest's exit status.
        seconds: Wall time.
        computed: Seconds of a processor, those of the processes that it started included.
    """

    folder: str
    output: str
    status: int
    seconds: float
    computed: float

    @property
    def counts(self) -> Counter[str]:
        """How many tests passed, failed, ..., from pytest's last line."""
        last = self.output.strip().rpartition("\n")[2]
        return Counter(
            {kind.rstrip("s") if kind == "errors" else kind: int(n) for n, kind in COUNT.findall(last)}
        )

    @property
    def verdict(self) -> str:
        """The counts in words; of a process that died, how."""
        return _counted(self.counts) or f"ended with status {self.status} and without a word"

    @property
    def failed(self) -> bool:
        """Whether something is wrong. In CI every folder must have something to run."""
        return self.status != 0 and (self.status != NOTHING_COLLECTED or bool(os.environ.get("CI")))


def python(*arguments: str) -> tuple[str, int, float]:
    """Run this Python in the repository's root; return all that it says, its exit status, and its seconds of a processor."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=TESTS.parent,
            env=ENVIRONMENT,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return said.read(), process.returncode, usage.ru_utime + usage.ru_stime


def make_oracle() -> None:
    """Make what every backend's tests compare with, so that no test has to wait for it until its time is over."""
    said, status, computed = python("-c", MAKE_ORACLE)
    if status:
        print(f"The oracle could not be made; the tests that need it will say so.\n{said}", flush=True)
    else:
        print(f"The oracle is there, after {computed:.1f}s of a processor", flush=True)


def run(folder: str, oracle: Future[None] | None) -> Outcome:
    """Run one folder's tests, once the oracle that it needs is made."""
    if oracle is not None:
        oracle.result()
    started = time.monotonic()
    output, status, computed = python(
        "-m", "pytest", f"tests/{folder}", "-q", "--no-header", "--color=no", "-rfE", "--durations=3"
    )
    seconds = time.monotonic() - started
    return Outcome(folder=folder, output=output, status=status, seconds=seconds, computed=computed)


def run_all(folders: Sequence[str]) -> list[Outcome]:
    """Run several folders' tests, and show what each said when it has finished."""
    outcomes = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        oracle = pool.submit(make_oracle) if NEED_ORACLE & {*folders} else None
        runs = [pool.submit(run, folder, oracle if folder in NEED_ORACLE else None) for folder in folders]
        for future in as_completed(runs):
            outcome = future.result()
            print(f"\n===== tests/{outcome.folder} =====\n{outcome.output}", flush=True)
            outcomes.append(outcome)
    return outcomes


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return a line for each folder and one for all, as pytest would write it."""
    lines = [
        f"{'FAILED' if outcome.failed else 'ok':<7} tests/{outcome.folder:<11} {outcome.verdict} in {outcome.seconds:.1f}s, "
        f"{outcome.computed:.1f}s of a processor"
        for outcome in sorted(outcomes, key=lambda outcome: outcome.failed)
    ]
    total = sum((outcome.counts for outcome in outcomes), Counter[str]())
    return "\n".join([*lines, f"===== {_counted(total) or 'no tests ran'} in {seconds:.2f}s ====="])


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))


def main() -> None:
    """Run what is named, or every folder that has tests."""
    named = sys.argv[1:]
    unknown = [folder for folder in named if folder not in FOLDERS]
    if unknown:
        sys.exit(f"no such tests: {', '.join(unknown)}; expected {', '.join(FOLDERS)}")
    folders = [folder for folder in named or FOLDERS if any((TESTS / folder).rglob("test_*.py"))]
    started = time.monotonic()
    print(f"Running tests/{', tests/'.join(folders)}; {AT_A_TIME} at a time", flush=True)
    outcomes = run_all(folders)
    failed = any(outcome.failed for outcome in outcomes)
    if not named:  # says where docs/support.md is behind what the tests have just shown
        subprocess.run(
            [sys.executable, "-m", "tests.oracle.support", "--check"], cwd=TESTS.parent, check=False
        )
    timed = subprocess.run(
        [sys.executable, "-c", DURATIONS],
        cwd=TESTS.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(timed.stdout)
    print(summary(outcomes, time.monotonic() - started))
    sys.exit(failed)


if __name__ == "__main__":
    main()
