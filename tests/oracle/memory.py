"""What a load, and each way of computing with what it gave, do to memory: run in a process of its own. Bytes throughout."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.read.tensor import HostTensor
from tests.benchmarks.memory import Growth
from tests.oracle import load

MB = 1 << 20

WIDE = {
    "vocab_size": 16384,
    "hidden_size": 1024,
    "intermediate_size": 2560,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "tie_word_embeddings": True,
}
"""A Llama of 41 million parameters, 164 MB in float32; 67 MB of them are its table of embeddings."""

NARROW = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
"""A Llama that computes first, so that what a framework takes once for all is not counted."""

# Memory of 1 MiB and more goes back to the system as soon as it is free: what stays is in use, not the allocator's store.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(MB)}


def give_back() -> None:
    """Have the allocator give back what is free in small pieces: compiling leaves tens of MB of them, each time others."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def measured(module: str, *arguments: str) -> dict[str, Any]:
    """Return what a module that calls `probe` printed; see `measured_each`."""
    [found] = measured_each(module, *arguments)
    return found


def measured_each(module: str, *arguments: str) -> list[dict[str, Any]]:
    """Return what each call of `probe` printed in a process of its own, whose programs are made as users' are."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=load.REPOSITORY,
        env=environment | ALLOCATOR,
    )
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def host_tensor(values: np.ndarray, offset: int) -> HostTensor:
    """Return a copy whose first byte lies `offset` bytes behind a multiple of 64."""
    room = np.empty(values.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    data = room[start : start + values.nbytes]
    data[:] = values.reshape(-1).view(np.uint8)
    return HostTensor(name="w", dtype=str(values.dtype), shape=values.shape, data=data)


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
        with Growth() as first:  # traces and compiles
            call()
            give_back()
        with Growth() as second:
            call()
        found["calls"][name] = {
            "left": first.left,
            "growth": second.growth,
            "kept": pointers(model) == held,
        }
    print(json.dumps(found))
