"""Loads a checkpoint, computes with the model, and prints what that did to memory, as JSON.

It runs in a process of its own, in which nothing else has grown or shrunk. Bytes throughout.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

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
    values = {weight.path: tf.convert_to_tensor(weight.value) for weight in model.weights}
    return {
        name: np.asarray(memoryview(tf.bitcast(value, tf.uint8))).ctypes.data
        for name, value in values.items()
    }


def mapped(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of addresses at which a file is mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


def main(folder: str, read: str, dtype: str) -> None:
    """Print what loading the folder and calling the model did."""
    tf.zeros(1)  # starts the runtime
    warm = loadstone.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    loadstone.TFLlamaForCausalLM(warm)
    with Peak() as loading:
        model = loadstone.TFLlamaForCausalLM.from_pretrained(folder, read=read, dtype=dtype)
    held = pointers(model)
    ranges = mapped(Path(folder).resolve() / "model.safetensors")
    ids = tf.reshape(tf.range(1, 17), (2, 8))
    function = tf.function(lambda ids: model(ids, use_cache=False).logits)
    found: dict[str, Any] = {
        "model": sum(weight.shape.num_elements() for weight in model.weights) * tf.as_dtype(dtype).size,
        "loading": loading.growth,
        "read": model.load_report.bytes_read,
        "mapped": model.load_report.bytes_mapped,
        "aligned": all(pointer % 64 == 0 for pointer in held.values()),
        "in the file": all(any(a <= pointer < b for a, b in ranges) for pointer in held.values()),
        "calls": {},
    }
    for name, call in {
        "call": lambda: model(ids).logits,
        "tf.function": lambda: function(ids),
        "generate": lambda: model.generate(ids, max_new_tokens=3),
    }.items():
        with Peak() as calling:
            call().numpy()
        found["calls"][name] = {"growth": calling.growth, "kept": pointers(model) == held}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
