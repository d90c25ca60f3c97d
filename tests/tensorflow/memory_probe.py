"""Loads a checkpoint, computes with the model, and prints what that did to memory: `memory_probe.py FOLDER READ-DTYPE...`."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import loadstone
from tests.oracle.memory import NARROW, give_back, probe


def pointers(model: Any) -> dict[str, int]:
    """Return where each parameter lies."""
    values = {weight.path: tf.convert_to_tensor(weight.value) for weight in model.weights}
    return {
        name: np.asarray(memoryview(tf.bitcast(value, tf.uint8))).ctypes.data
        for name, value in values.items()
    }


def calls(model: Any) -> dict[str, Callable[[], Any]]:
    """Return every documented way of computing with a model."""
    ids = tf.reshape(tf.range(1, 17), (2, 8))
    function = tf.function(lambda ids: model(ids, use_cache=False).logits)
    return {
        "call": lambda: model(ids).logits.numpy(),
        "tf.function": lambda: function(ids).numpy(),
        "generate": lambda: model.generate(ids, max_new_tokens=3).numpy(),
    }


def main(folder: str, *ways: str) -> None:
    """Print what loading the folder and calling the model did, one way after the other."""
    for way in ways:
        measure(folder, *way.split("-"))
        give_back()


def measure(folder: str, read: str, dtype: str) -> None:
    """Print it of one way."""
    warm = loadstone.TFLlamaForCausalLM.from_config(loadstone.LlamaConfig(**NARROW), dtype=dtype)
    for call in calls(warm).values():
        call()
    probe(
        folder,
        lambda: loadstone.TFLlamaForCausalLM.from_pretrained(folder, read=read, dtype=dtype),
        pointers=pointers,
        calls=calls,
        nbytes=lambda model: (
            sum(weight.shape.num_elements() for weight in model.weights) * tf.as_dtype(dtype).size
        ),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
