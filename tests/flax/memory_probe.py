"""Loads a checkpoint, computes with the model, and prints what that did to memory: `memory_probe.py FOLDER READ`."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

import loadstone
from tests.oracle.memory import NARROW, probe


def pointers(model: Any) -> dict[str, int]:
    """Return where each parameter lies."""
    return {name: value.unsafe_buffer_pointer() for name, value in model.params.items()}


def calls(model: Any) -> dict[str, Callable[[], Any]]:
    """Return every documented way of computing with a model."""
    ids = np.arange(1, 17).reshape(2, 8)
    graphdef, state = nnx.split(model)
    split = jax.jit(lambda state, ids: nnx.merge(graphdef, state)(ids).logits)
    inside = nnx.jit(lambda model, ids: model(ids).logits, graph_updates=False)
    functional = jax.jit(lambda params, ids: model(ids, params=params).logits)
    ways = {
        "call": lambda: model(ids),
        "call with params": lambda: model(ids, params=model.params),
        "generate": lambda: model.generate(ids, max_new_tokens=3),
        "jax.jit over nnx.split": lambda: split(state, ids),
        "nnx.jit without updates": lambda: inside(model, ids),
        "jax.jit over params": lambda: functional(model.params, ids),
    }
    return {name: functools.partial(_finished, way) for name, way in ways.items()}


def _finished(way: Callable[[], Any]) -> Any:
    return jax.block_until_ready(way())


def main(folder: str, read: str) -> None:
    """Print what loading the folder and calling the model did."""
    for call in calls(loadstone.FlaxLlamaForCausalLM(loadstone.LlamaConfig(**NARROW))).values():
        call()
    probe(
        folder,
        lambda: loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, read=read),
        pointers=pointers,
        calls=calls,
        nbytes=lambda model: sum(value.nbytes for value in model.params.values()),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
