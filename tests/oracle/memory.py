"""What a load, and each way of computing with what it gave, do to memory: run in a process of its own. Bytes throughout."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import Growth


def mapped(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of addresses at which a file is mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


def probe(
    folder: str,
    load: Callable[[], Any],
    *,
    pointers: Callable[[Any], Mapping[str, int]],
    calls: Callable[[Any], Mapping[str, Callable[[], Any]]],
    nbytes: Callable[[Any], int],
) -> None:
    """Load, call, and print what that did to memory, as JSON.

    Args:
        folder: A checkpoint of one file.
        load: Returns its model.
        pointers: Where each parameter of a model lies.
        calls: The documented ways of computing with a model; each returns when it has computed.
        nbytes: The bytes of a model's parameters.
    """
    with Growth() as loading:
        model = load()
    held = pointers(model)
    ranges = mapped(Path(folder).resolve() / "model.safetensors")
    found: dict[str, Any] = {
        "model": nbytes(model),
        "loading": loading.growth,
        "read": model.load_report.bytes_read,
        "mapped": model.load_report.bytes_mapped,
        "aligned": all(pointer % 64 == 0 for pointer in held.values()),
        "in the file": all(any(a <= pointer < b for a, b in ranges) for pointer in held.values()),
        "calls": {},
    }
    for name, call in calls(model).items():
        with Growth() as calling:
            call()
        found["calls"][name] = {"growth": calling.growth, "kept": pointers(model) == held}
    print(json.dumps(found))
