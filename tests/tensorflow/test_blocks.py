"""Single blocks against what transformers' own modules compute."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from loadstone import LlamaConfig
from loadstone.testing import assert_close
from loadstone_tensorflow.blocks.attention import Attention, CrossAttention
from loadstone_tensorflow.blocks.biases import RelativeBias, alibi
from loadstone_tensorflow.blocks.embeddings import Embeddings
from loadstone_tensorflow.blocks.feedforward import FeedForward
from loadstone_tensorflow.blocks.layer import Layer
from loadstone_tensorflow.blocks.run import Context, part, run_blocks
from loadstone_tensorflow.generation import Cache
from loadstone_tensorflow.layers import RMSNorm, RotaryEmbedding, without_memory
from loadstone_tensorflow.modeling import named_layers, named_parameters
from loadstone_tensorflow.models.bert import TFBertModel
from loadstone_tensorflow.models.llama import TFLlamaModel
from tests.oracle.blocks import BLOCKS, HIDDEN, TOKENS, arrays

KINDS = {
    "attention": Attention,
    "cross_attention": CrossAttention,
    "embeddings": Embeddings,
    "feed_forward": FeedForward,
    "layer": Layer,
}

CAUSAL = [name for name, block in BLOCKS.items() if block.kind == "attention" and "both-ways" not in name]


def of_kind(*kinds: str) -> Any:
    return pytest.mark.parametrize("case", [name for name, block in BLOCKS.items() if block.kind in kinds])


def filled(layer: Any, weights: dict[str, np.ndarray]) -> Any:
    """Return a layer with weights, each of which it must have a place for."""
    held = dict(named_parameters(layer))
    assert held.keys() == weights.keys()
    for name, value in weights.items():
        assert tuple(held[name].shape) == value.shape
        held[name].fill(tf.constant(value))
    return layer


def built(case: str) -> Any:
    """Return a block with the recorded weights."""
    block = BLOCKS[case]
    with without_memory("float32"):
        layer = KINDS[block.kind](block.spec, block.names, HIDDEN)
    return filled(layer, arrays(case)["weight"])


def context_of(case: str, **more: Any) -> tuple[tf.Tensor, Context]:
    """Return a block's input and context."""
    spec, given = BLOCKS[case].spec, {name: tf.constant(a) for name, a in arrays(case)["input"].items()}
    x, positions = given.pop("x"), given.pop("positions", None)
    given.pop("padding", None)
    rope = getattr(spec, "attention", spec).rope if BLOCKS[case].kind != "feed_forward" else None
    if rope is not None:
        more["rotary"] = RotaryEmbedding(rope)(x, positions)
    return x, Context(**given, **more)


def check(case: str, **found: tf.Tensor) -> None:
    for name, value in found.items():
        assert_close(value.numpy(), arrays(case)["output"][name], what=f"{case}: {name}")


@of_kind("attention", "cross_attention")
def test_attention(case: str) -> None:
    layer = built(case)
    x, context = context_of(case, eager=True)
    mixed, weights = layer(x, context)
    check(case, mixed=mixed, weights=weights)
    assert layer(x, context._replace(eager=False))[1] is None


@pytest.mark.parametrize("case", CAUSAL)
def test_attention_with_a_cache_goes_on_where_it_stopped(case: str) -> None:
    x, whole = context_of(case, cache=Cache())
    layer, parts = built(case), []
    for start, end in ((0, 4), (4, 5), (5, TOKENS)):
        step = whole._replace(mask=whole.mask[:, :, start:end, :end])
        if whole.bias is not None:
            rows = slice(start, end) if whole.bias.shape[2] > 1 else slice(None)
            step = step._replace(bias=whole.bias[:, :, rows, :end])
        if whole.rotary is not None:
            step = step._replace(rotary=tuple(part[:, :, start:end] for part in whole.rotary))
        parts.append(layer(x[:, start:end], step)[0])
    check(case, mixed=tf.concat(parts, axis=1))


def test_an_encoders_states_are_read_once() -> None:
    layer, cache = built("cross"), Cache()
    x, context = context_of("cross", cache=cache)
    first, _ = layer(x[:, :3], context)
    rest, _ = layer(x[:, 3:], context._replace(memory=None))
    check("cross", mixed=tf.concat((first, rest), axis=1))
    assert cache.get_seq_length() == 0


@of_kind("feed_forward")
def test_feed_forward(case: str) -> None:
    check(case, x=built(case)(tf.constant(arrays(case)["input"]["x"]), False))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
@of_kind("layer")
def test_layer(case: str, compiled: bool) -> None:
    layer = built(case)
    x, context = context_of(case)

    def run(x: tf.Tensor) -> tf.Tensor:
        return run_blocks([layer], x, [context], keep_states=False)[0]

    check(case, x=tf.function(run, jit_compile=True)(x) if compiled else run(x))


def model_of(case: str, model_class: type, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a base model of a case's spec, with the recorded weights."""
    monkeypatch.setattr("loadstone.architectures.resolve_spec", lambda *_: BLOCKS[case].spec)
    with without_memory("float32"):
        model = model_class(LlamaConfig())
    return filled(model, arrays(case)["weight"])


def check_model(case: str, model: Any) -> None:
    output = model(**arrays(case)["input"], output_hidden_states=True)
    states = {f"hidden_states/{layer}": state for layer, state in enumerate(output.hidden_states)}
    check(case, last_hidden_state=output.last_hidden_state, **states)


@of_kind("decoder")
def test_decoder(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(case, TFLlamaModel, monkeypatch)
    rotary = {name for name, layer in named_layers(model) if isinstance(layer, RotaryEmbedding)}
    expected = {"ropes-two": {"rotary_emb", "rotary_emb_1"}, "ropes-some": {"rotary_emb"}}
    assert rotary == expected[case]
    check_model(case, model)


@of_kind("encoder")
def test_encoder(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_model(case, model_of(case, TFBertModel, monkeypatch))


@of_kind("relative_bias")
def test_relative_positions(case: str) -> None:
    spec, recorded = BLOCKS[case].spec, arrays(case)
    with without_memory("float32"):
        layer = RelativeBias(spec, recorded["weight"]["weight"].shape[1])
    check(case, bias=filled(layer, recorded["weight"])(TOKENS - 5, 5, TOKENS))
    sizes = dataclasses.replace(spec, buckets=32, max_distance=128)
    assert np.array_equal(sizes.table, recorded["output"]["buckets"])


def test_alibi() -> None:
    given = arrays("alibi")["input"]
    found = alibi(3, tf.constant(given["padding"]), tf.float32)
    assert_close(found.numpy(), given["bias"], what="alibi")


def test_a_wide_norm_rounds_once() -> None:
    x = tf.cast(tf.random.stateless_normal((5, 16), seed=(0, 0)), tf.bfloat16)
    with without_memory("bfloat16"):
        wide, narrow = RMSNorm(16, 1e-6, wide=True), RMSNorm(16, 1e-6)
    for norm in (wide, narrow):
        norm.weight.fill(tf.cast(tf.linspace(0.1, 3.0, 16), tf.bfloat16))
    y = tf.cast(x, tf.float32)
    y = y * tf.math.rsqrt(tf.reduce_mean(tf.square(y), axis=-1, keepdims=True) + 1e-6)
    expected = tf.cast(tf.cast(wide.weight.value, tf.float32) * y, tf.bfloat16)
    assert tf.reduce_all(wide(x) == expected)
    assert not tf.reduce_all(wide(x) == narrow(x))


@of_kind("embeddings")
def test_learned_positions_begin_at_a_later_row(case: str) -> None:
    ids, module = tf.constant(arrays(case)["input"]["input_ids"]), built(case)
    words = part(module, "embed_tokens")(ids)
    check(case, summed=module(words, None, module.positions(ids, words), training=False))
