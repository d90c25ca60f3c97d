"""Loads a checkpoint, calls the model in every documented way, and prints what that did to memory, as JSON.

It runs in a process of its own, in which nothing else has grown or shrunk. Bytes throughout.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

import loadstone


def anonymous() -> int:
    """Return the bytes of this process's memory that no file backs."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


class Peak:
    """The most anonymous memory above that at the start of the block."""

    def __enter__(self) -> Self:
        self.start = self.most = anonymous()
        self.running = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.most = max(self.most, anonymous())
            time.sleep(0.002)

    def __exit__(self, *error: object) -> None:
        self.running = False
        self.thread.join()
        self.most = max(self.most, anonymous())

    @property
    def growth(self) -> int:
        """Bytes."""
        return self.most - self.start


def pointers(model: Any) -> dict[str, int]:
    """Return where each parameter lies."""
    return {name: value.unsafe_buffer_pointer() for name, value in model.params.items()}


def mapped(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of addresses at which a file is mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


def calls(model: Any) -> dict[str, Callable[[], Any]]:
    """Return every documented way of computing with a model."""
    ids = np.arange(1, 17).reshape(2, 8)
    graphdef, state = nnx.split(model)
    split = jax.jit(lambda state, ids: nnx.merge(graphdef, state)(ids).logits)
    inside = nnx.jit(lambda model, ids: model(ids).logits, graph_updates=False)
    functional = jax.jit(lambda params, ids: model(ids, params=params).logits)
    return {
        "call": lambda: model(ids),
        "call with params": lambda: model(ids, params=model.params),
        "generate": lambda: model.generate(ids, max_new_tokens=3),
        "jax.jit over nnx.split": lambda: split(state, ids),
        "nnx.jit without updates": lambda: inside(model, ids),
        "jax.jit over params": lambda: functional(model.params, ids),
    }


def main(folder: str, read: str) -> None:
    """Print what loading the folder and calling the model did."""
    jax.block_until_ready(jax.device_put(np.zeros(1)))
    with Peak() as loading:
        model = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, read=read)
    held = pointers(model)
    ranges = mapped(Path(folder).resolve() / "model.safetensors")
    found: dict[str, Any] = {
        "model": sum(value.nbytes for value in model.params.values()),
        "loading": loading.growth,
        "read": model.load_report.bytes_read,
        "mapped": model.load_report.bytes_mapped,
        "aligned": all(pointer % 64 == 0 for pointer in held.values()),
        "in the file": all(any(a <= pointer < b for a, b in ranges) for pointer in held.values()),
        "calls": {},
    }
    for name, call in calls(model).items():
        with Peak() as calling:
            jax.block_until_ready(call())
        found["calls"][name] = {"growth": calling.growth, "kept": pointers(model) == held}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
