"""Measures models that are larger than memory, or run before they are there; what each figure is, its function says.

    python -m tests.benchmarks.big FIGURE PATH [--peer PYTHON] [--rounds N]

Each measurement is a process of its own. Memory is what the process has above what it had after importing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

START = """
import json, os, resource, sys, time
import torch
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
path = sys.argv[1]
def held(key, file="status"):
    with open(f"/proc/self/{file}") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))
def user():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
def forwards(model, ids, number):
    wall, processor = [], []
    with torch.no_grad():
        for _ in range(number):
            begun, used = time.perf_counter(), user()
            model(ids)
            wall.append(time.perf_counter() - begun)
            processor.append(user() - used)
    return {"wall": min(wall[1:] or wall), "processor": min(processor[1:] or processor)}
"""
OURS = START + "from loadstone import AutoModelForCausalLM\n"
THEIRS = START + "from transformers import AutoModelForCausalLM\n"

FORWARD = """
model = AutoModelForCausalLM.from_pretrained(path, **json.loads(sys.argv[2]))
print(json.dumps(forwards(model, torch.arange(1, 9)[None], 8)))
"""
SPARSE = """
before = held("RssAnon"), held("VmRSS")
model = AutoModelForCausalLM.from_pretrained(path, device_map="disk")
most = [0, 0]
def look(*_):
    most[:] = (max(m, held(key)) for m, key in zip(most, ("RssAnon", "VmRSS")))
for module in model.modules():
    module.register_forward_hook(look)
found = forwards(model, torch.arange(1, 3)[None], 1)
print(json.dumps(found | {"anonymous": most[0] - before[0], "resident": most[1] - before[1]}))
"""
EARLY = """
for name in os.listdir(path):
    descriptor = os.open(os.path.join(path, name), os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
wait = json.loads(sys.argv[2])
begun = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(path, read="copy", wait=wait)
returned = time.perf_counter()
class First:
    def __init__(self):
        self.calls, self.found = 0, {}
    def put(self, tokens):
        self.calls += 1
        if self.calls == 2:
            progress = model.load_report.progress
            self.found = {"first_token": time.perf_counter() - begun, "read": progress.read, "total": progress.total}
    def end(self):
        pass
first = First()
tokens = model.generate([[1, 5, 9, 33]], max_new_tokens=4, do_sample=False, streamer=first)
model.wait()
done = {"returned": returned - begun, "all": time.perf_counter() - begun, "tokens": tokens.tolist()}
print(json.dumps(first.found | done))
"""
LIMIT = """
base = held("VmData")
model = loadstone.plan(path, backend="torch").nbytes
limit = base + int(1.1 * model)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
options = json.loads(sys.argv[2])
loaded = AutoModelForCausalLM.from_pretrained(path, **options)
sums = sum(float(p.float().sum()) for p in loaded.parameters() if p.ndim == 1)
print(json.dumps({"base": base, "model": model, "limit": limit, "peak": held("VmData"), "sum": sums}))
"""
SHARED = """
base = held("Pss_File", "smaps_rollup")
model = AutoModelForCausalLM.from_pretrained(path)
touched = sum(int(p.detach().reshape(-1).view(torch.uint8)[::4096].sum()) for p in model.parameters())
print("ready", flush=True)
sys.stdin.readline()
sizes = {"pss": held("Pss:", "smaps_rollup"), "file": held("Pss_File", "smaps_rollup")}
print(json.dumps(sizes | {"base": base, "bytes": model.load_report.nbytes}), flush=True)
sys.stdin.readline()
"""


def ran(code: str, path: Path, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """Run a program, and return what it prints."""
    command = [python, "-c", code, str(path), *arguments]
    environment = os.environ | ({} if python == sys.executable else {"PYTHONPATH": ""})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def forward(path: Path, peer: str | None, rounds: int) -> None:
    """Print the seconds of one warm forward of 8 tokens, resident and from disk: the least of each process, in turns."""
    kinds = [("loadstone", OURS, sys.executable, {"device_map": "disk"})]
    if peer:
        kinds.append(("transformers + accelerate", THEIRS, peer, {"device_map": {"": "disk"}}))
    for _ in range(rounds):
        for name, start, python, disk in kinds:
            for where, options in (("resident", {}), ("disk", disk)):
                found = ran(
                    start + FORWARD, path, json.dumps({"dtype": "bfloat16", **options}), python=python
                )
                print(
                    f"{name:26} {where:9} {found['wall']:.3f} s, {found['processor']:.3f} s of processors",
                    flush=True,
                )


def sparse(path: Path, peer: str | None, rounds: int) -> None:
    """Print what one forward from disk takes of a 7B whose 13 GB are holes; the checkpoint is made and removed again."""
    from tests.benchmarks import checkpoints

    holes = checkpoints.Generated(
        name="llama-7b-sparse", layers=32, hidden=4096, intermediate=11008, heads=32, kv_heads=32, vocabulary=32000,
        shard=5 << 30, sparse=True,
    )  # fmt: skip
    folder = checkpoints.make(holes, path)
    try:
        for _ in range(rounds):
            print(ran(OURS + SPARSE, folder))
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def early(path: Path, peer: str | None, rounds: int) -> None:
    """Print when the first token comes of a cold read that is not waited for, and how much was read by then."""
    for _ in range(rounds):
        found = {wait: ran(OURS + EARLY, path, json.dumps(wait)) for wait in (False, True)}
        assert found[False]["tokens"] == found[True]["tokens"]
        print(found)


def limit(path: Path, peer: str | None, rounds: int) -> None:
    """Load under RLIMIT_DATA of baseline + model + 10 %.

    It counts all private memory that a process may write to, copy-on-write mappings of files too, touched or not: a load that
    takes addresses for a second copy of anything larger than the 10 % ends with an error. RssAnon has no limit of its own.
    """
    code = OURS + "import loadstone, numpy\n" + LIMIT
    for options in ({"read": "copy"}, {"read": "map"}):
        print(options, ran(code, path, json.dumps(options)))


def shared(path: Path, peer: str | None, rounds: int) -> None:
    """Print the proportional set sizes of eight processes that map and touch one checkpoint."""
    found = sizes(path, 8)
    print(
        {key: sum(one[key] for one in found) for key in ("pss", "file", "base")}, "model:", found[0]["bytes"]
    )


def sizes(path: Path, number: int) -> list[dict[str, int]]:
    """Return the proportional set sizes of so many processes that map and touch one checkpoint, while all of them do.

    "pss" is all, "file" what of it lies in files, "base" the same before the load, as the process saw it then.
    """
    command = [sys.executable, "-c", OURS + SHARED, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started: list[Any] = [subprocess.Popen(command, **pipes) for _ in range(number)]  # type: ignore[call-overload]
    for one in started:
        assert one.stdout.readline() == "ready\n"
    found = []
    for one in started:
        one.stdin.write("\n")
        one.stdin.flush()
        found.append(json.loads(one.stdout.readline()))
    for one in started:
        one.communicate("\n")
    return found


FIGURES: dict[str, Callable[[Path, str | None, int], None]] = {
    one.__name__: one for one in (forward, sparse, early, limit, shared)
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("path", type=Path, help="the checkpoint; for sparse, a folder to make it in")
    parser.add_argument("--peer", help="the Python of an environment with transformers 5 and accelerate")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    FIGURES[given.figure](given.path, given.peer, given.rounds)


if __name__ == "__main__":
    main()
