"""What decides what is drawn in Flax: `rngs=`, `seed=`, and chance where neither is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import loadstone
from loadstone.errors import ArgumentError
from tests.oracle import load

CONFIG = loadstone.LlamaConfig(
    vocab_size=29, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
)
IDS = [[1, 5, 9], [3, 7, 2]]

pytestmark = pytest.mark.usefixtures("compile_little")


def constructed(**arguments: Any) -> Any:
    return loadstone.FlaxLlamaForCausalLM(CONFIG, **arguments).lm_head.weight[...]


def from_config(**arguments: Any) -> Any:
    return loadstone.FlaxAutoModelForCausalLM.from_config(CONFIG, **arguments).lm_head.weight[...]


def new_head(**arguments: Any) -> Any:
    folder = load.folder("bert-base")
    return loadstone.FlaxBertForSequenceClassification.from_pretrained(folder, **arguments).classifier.weight[
        ...
    ]


MODEL = loadstone.FlaxLlamaForCausalLM(CONFIG, seed=0)


def sampled(**arguments: Any) -> Any:
    return MODEL.generate(IDS, do_sample=True, temperature=9.0, max_new_tokens=16, **arguments)


DRAWN = (constructed, from_config, new_head, sampled)


def alike(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("drawn", DRAWN)
def test_rngs_decide(drawn: Callable[..., Any]) -> None:
    rngs = nnx.Rngs(0)
    first, second = drawn(rngs=rngs), drawn(rngs=rngs)
    assert alike(first, drawn(rngs=nnx.Rngs(0)))
    assert not alike(first, second)
    assert not alike(first, drawn(rngs=nnx.Rngs(1)))


@pytest.mark.parametrize("drawn", DRAWN)
def test_without_a_seed_chance_decides(drawn: Callable[..., Any]) -> None:
    assert not alike(drawn(), drawn())
    assert alike(drawn(seed=4), drawn(seed=4))
    assert not alike(drawn(seed=4), drawn(seed=5))


def test_keys_and_streams_are_sources_too() -> None:
    key = jax.random.key(3)
    assert alike(constructed(rngs=key), constructed(rngs=jax.random.PRNGKey(3)))
    assert not alike(constructed(rngs=key), constructed(rngs=jax.random.key(4)))
    assert alike(constructed(rngs=nnx.Rngs(params=3).params), constructed(rngs=nnx.Rngs(3).params))


@pytest.mark.parametrize("drawn", DRAWN)
def test_sources_that_are_none(drawn: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError, match="rngs is no source of random numbers"):
        drawn(rngs=7)
    with pytest.raises(ArgumentError, match="both say what is drawn"):
        drawn(rngs=nnx.Rngs(0), seed=1)


def test_a_source_that_is_being_traced_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"outside of jax\.jit"):
        nnx.eval_shape(lambda: loadstone.FlaxLlamaForCausalLM(CONFIG, rngs=nnx.Rngs(0)))
