"""TensorFlow's global generator decides what is drawn: fresh weights, new heads and sampled tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone_tensorflow.framework import keras, tf
from tests.oracle import load

CONFIG = loadstone.LlamaConfig(
    vocab_size=29, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
)
IDS = [[1, 5, 9], [3, 7, 2]]


def constructed(**arguments: Any) -> Any:
    return loadstone.TFLlamaForCausalLM(CONFIG, **arguments).lm_head.weight.numpy()


def from_config(**arguments: Any) -> Any:
    return loadstone.TFAutoModelForCausalLM.from_config(CONFIG, **arguments).lm_head.weight.numpy()


def new_head(**arguments: Any) -> Any:
    folder = load.folder("bert-base")
    return loadstone.TFBertForSequenceClassification.from_pretrained(
        folder, **arguments
    ).classifier.weight.numpy()


MODEL = loadstone.TFLlamaForCausalLM(CONFIG, seed=0)


def sampled(**arguments: Any) -> Any:
    return MODEL.generate(IDS, do_sample=True, temperature=9.0, max_new_tokens=16, **arguments).numpy()


DRAWN = (constructed, from_config, new_head, sampled)


@pytest.mark.parametrize("fix", [tf.random.set_seed, keras.utils.set_random_seed])
@pytest.mark.parametrize("drawn", DRAWN)
def test_the_global_generator_decides(drawn: Callable[..., Any], fix: Callable[[int], None]) -> None:
    fix(0)
    first, second = drawn(), drawn()
    fix(0)
    again = drawn()
    fix(1)
    other = drawn()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("drawn", DRAWN)
def test_a_seed_goes_before_the_generator(drawn: Callable[..., Any]) -> None:
    tf.random.set_seed(0)
    before = drawn(seed=4)
    tf.random.set_seed(1)
    assert np.array_equal(before, drawn(seed=4))
    assert not np.array_equal(before, drawn(seed=5))


def test_inside_the_scope_of_a_strategy_the_generator_decides_too() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        tf.random.set_seed(0)
        first = constructed()
        tf.random.set_seed(0)
        assert np.array_equal(first, constructed())
        assert not np.array_equal(first, constructed())
