"""The support matrix: what the proofs that ran have shown, written as docs/support.md.

    $ python -m tests.oracle.support           # write the page from the last run
    $ python -m tests.oracle.support --check   # fail where the page says something else

`record` is called by the tests' conftest with each proof that ended; nothing here is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from loadstone.testing.cases import CASES

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / ".cache" / "support"
SECONDS = REPOSITORY / ".cache" / "seconds"
PAGE = REPOSITORY / "docs" / "support.md"
TITLES = {"torch": "PyTorch", "tensorflow": "TensorFlow", "flax": "Flax"}
FAILED, PASSED = "failed", "passed"

Results = Mapping[str, Mapping[str, int]]
"""Class name -> outcome -> number of tests."""


def record(backend: str, outcomes: list[tuple[str, str, float]]) -> None:
    """Write down what a backend's proofs came to, and how many seconds each model type took.

    Args:
        backend: Its name.
        outcomes: Case, outcome and seconds of each test that ran.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {PASSED: 0, FAILED: 0})
    seconds: Counter[str] = Counter()
    for case, outcome, took in outcomes:
        counts[CASES[case].class_name][PASSED if outcome == PASSED else FAILED] += 1
        seconds[CASES[case].model_type] += took
    for folder, found in ((RESULTS, counts), (SECONDS, seconds)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{backend}.json").write_text(json.dumps(found, indent=1, sort_keys=True))


def durations() -> str:
    """Return a table of the seconds that each model type's proofs took in each backend."""
    found = {path.stem: json.loads(path.read_text()) for path in SECONDS.glob("*.json")}
    columns = [name for name in TITLES if name in found]
    if not columns:
        return ""
    types = dict.fromkeys(case.model_type for case in CASES.values())
    rows = [f"{'seconds':<14}" + "".join(f"{name:>12}" for name in columns)]
    for model_type in types:
        rows.append(
            f"{model_type:<14}" + "".join(f"{found[name].get(model_type, 0):12.1f}" for name in columns)
        )
    return "\n".join(rows)


def results() -> dict[str, Results]:
    """Return backend -> what its last run showed."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def render(found: Mapping[str, Results]) -> str:
    """Return the page."""
    columns = [name for name in TITLES if name in found]
    lines = [
        "# What is supported",
        "",
        "Each cell is a model class that agrees with transformers on tiny checkpoints of its architecture. Each checkpoint has two",
        "tests. The proof compares logits, all hidden states, attentions and losses to 1e-5 in float32, and gradients; language",
        "models also write the same text through their cache; the first checkpoint of a model type or of a head is fed in every",
        "other way as well, in bfloat16 too. The other test loads and saves every parameter bit for bit. The number is how many",
        "tests passed. This page is written by the tests that ran: `make test && make docs`.",
        "",
        "In TensorFlow the class has the prefix `TF`, in Flax `Flax`.",
        "",
        f"| model type | class | {' | '.join(TITLES[name] for name in columns)} |",
        f"| --- | --- |{' --- |' * len(columns)}",
    ]
    classes = dict.fromkeys((case.model_type, case.class_name) for case in CASES.values())
    for model_type, class_name in classes:
        cells = [_cell(found[name].get(class_name)) for name in columns]
        if any(cells):
            lines.append(f"| {model_type} | `{class_name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(counts: Mapping[str, int] | None) -> str:
    if not counts:
        return ""
    return f"{counts[FAILED]} failed" if counts[FAILED] else f"✓ {counts[PASSED]}"


def main() -> None:
    """Write the page, or check it."""
    page = render(results())
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        sys.exit("docs/support.md does not say what the tests have shown: run `make docs`")


if __name__ == "__main__":
    main()
