"""Single blocks against what transformers' own modules compute."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array

from loadstone import LlamaConfig
from loadstone.testing import assert_close
from loadstone_flax.blocks.attention import Attention, CrossAttention
from loadstone_flax.blocks.biases import RelativeBias, alibi
from loadstone_flax.blocks.embeddings import Embeddings
from loadstone_flax.blocks.feedforward import FeedForward
from loadstone_flax.blocks.layer import Layer
from loadstone_flax.blocks.run import Context, run_blocks
from loadstone_flax.generation import Cache
from loadstone_flax.layers import RMSNorm, RotaryEmbedding, named_modules, named_parameters, without_memory
from loadstone_flax.models.bert import FlaxBertModel
from loadstone_flax.models.llama import FlaxLlamaModel
from tests.oracle.blocks import BLOCKS, HIDDEN, TOKENS, arrays

pytestmark = pytest.mark.usefixtures("compile_little")

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


def fill(module: nnx.Module, case: str) -> None:
    """Give a block the recorded weights, each of which it must have a place for."""
    weights, held = arrays(case)["weight"], dict(named_parameters(module))
    assert held.keys() == weights.keys()
    for name, variable in held.items():
        assert variable.get_raw_value().shape == weights[name].shape, name
        variable.set_raw_value(jnp.asarray(weights[name]))


def built(case: str) -> Any:
    block = BLOCKS[case]
    module = KINDS[block.kind](block.spec, block.names, HIDDEN)
    fill(module, case)
    return module


def context_of(case: str, **more: Any) -> tuple[Array, Context]:
    """Return a block's input and context."""
    spec, given = BLOCKS[case].spec, {k: jnp.asarray(v) for k, v in arrays(case)["input"].items()}
    x, positions = given.pop("x"), given.pop("positions", None)
    given.pop("padding", None)
    rope = getattr(spec, "attention", spec).rope if BLOCKS[case].kind != "feed_forward" else None
    if rope is not None:
        more["rotary"] = RotaryEmbedding(rope)(x, positions)
    return x, Context(**given, **more)


def computed(module: Any, x: Array, context: Context) -> tuple[Array, Array | None, Cache]:
    """Return what a block computes as one program, and the cache that it then has."""

    def run() -> tuple[Array, Array | None, Cache]:
        cache = jax.tree.map(jnp.asarray, context.cache)
        return *module(x, context._replace(cache=cache)), cache

    return jax.jit(run)()


def check(case: str, **found: Array) -> None:
    for name, value in found.items():
        assert_close(np.asarray(value), arrays(case)["output"][name], what=f"{case}: {name}")


@pytest.mark.parametrize("eager", [True, False])
@of_kind("attention", "cross_attention")
def test_attention(case: str, eager: bool) -> None:
    x, context = context_of(case, eager=eager)
    mixed, weights, _ = computed(built(case), x, context)
    check(case, mixed=mixed, **{"weights": weights} if eager else {})
    assert eager or weights is None


@pytest.mark.parametrize("slots", [0, 3], ids=["growing", "slots"])
@pytest.mark.parametrize("case", CAUSAL)
def test_attention_with_a_cache_goes_on_where_it_stopped(case: str, slots: int) -> None:
    cache = Cache()
    x, whole = context_of(case, cache=cache)
    module, parts = built(case), []
    for start, end in ((0, 4), (4, 5), (5, TOKENS)):
        if slots and start == 4:
            cache = cache.reserve(TOKENS - start + slots)
        behind = cache.keys(end - start) - end
        step = whole._replace(cache=cache, mask=_cut(whole.mask, start, end, behind))
        if whole.bias is not None:
            step = step._replace(bias=_cut(whole.bias, start, end, behind))
        if whole.rotary is not None:
            step = step._replace(rotary=tuple(part[:, start:end] for part in whole.rotary))
        mixed, _, cache = computed(module, x[:, start:end], step)
        parts.append(mixed)
        cache.advance(end - start)
    check(case, mixed=jnp.concatenate(parts, axis=1))


def _cut(scores: Array | None, start: int, end: int, behind: int) -> Array:
    """(B or 1, 1 or H, T or 1, T) -> the same of some queries, and of the keys up to the last of them and empty slots."""
    assert scores is not None
    rows = slice(start, end) if scores.shape[2] > 1 else slice(None)
    return jnp.pad(scores[:, :, rows, :end], ((0, 0), (0, 0), (0, 0), (0, behind)))


def test_an_encoders_states_are_read_once() -> None:
    module = built("cross")
    x, context = context_of("cross", cache=Cache())
    first, _, cache = computed(module, x[:, :3], context)
    rest, _, cache = computed(module, x[:, 3:], context._replace(cache=cache, memory=None))
    check("cross", mixed=jnp.concatenate((first, rest), axis=1))
    assert cache.get_seq_length() == 0


@of_kind("feed_forward")
def test_feed_forward(case: str) -> None:
    check(case, x=jax.jit(built(case))(jnp.asarray(arrays(case)["input"]["x"])))


@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
@of_kind("layer")
def test_layer(case: str, again: bool) -> None:
    x, context = context_of(case)
    layer = built(case)
    layer.gradient_checkpointing = again
    check(case, x=jax.jit(lambda: run_blocks([layer], x, [context], keep_states=False)[0])())


def model_of(case: str, model_class: type, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a base model of a case's spec, with the recorded weights."""
    monkeypatch.setattr("loadstone.architectures.resolve_spec", lambda *_: BLOCKS[case].spec)
    with without_memory(jnp.float32):
        model = model_class(LlamaConfig())
    fill(model, case)
    return model


def check_model(case: str, model: Any) -> None:
    output = model(**arrays(case)["input"], output_hidden_states=True)
    states = {f"hidden_states/{layer}": state for layer, state in enumerate(output.hidden_states)}
    check(case, last_hidden_state=output.last_hidden_state, **states)


@of_kind("decoder")
def test_decoder(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(case, FlaxLlamaModel, monkeypatch)
    rotary = {path[:-1] for path, module in named_modules(model) if isinstance(module, RotaryEmbedding)}
    expected = {"ropes-two": {"rotary_emb", "rotary_emb_1"}, "ropes-some": {"rotary_emb"}}
    assert rotary == expected[case]
    check_model(case, model)


@of_kind("encoder")
def test_encoder(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_model(case, model_of(case, FlaxBertModel, monkeypatch))


@of_kind("relative_bias")
def test_relative_positions(case: str) -> None:
    spec = BLOCKS[case].spec
    module = RelativeBias(spec, arrays(case)["weight"]["weight"].shape[1])
    fill(module, case)
    check(case, bias=jax.jit(lambda: module(5, TOKENS))())
    slots = module(5, TOKENS + 2, jnp.int32(TOKENS - 5))
    check(case, bias=slots[..., :TOKENS])
    sizes = dataclasses.replace(spec, buckets=32, max_distance=128)
    assert np.array_equal(sizes.table, arrays(case)["output"]["buckets"])


def test_alibi() -> None:
    given = arrays("alibi")["input"]
    found = alibi(3, jnp.asarray(given["padding"]), jnp.float32)
    assert_close(np.asarray(found), given["bias"], what="alibi")


def test_a_wide_norm_rounds_once() -> None:
    x = jax.random.normal(jax.random.key(0), (5, 16)).astype(jnp.bfloat16)
    wide, narrow = RMSNorm(16, 1e-6, wide=True), RMSNorm(16, 1e-6)
    weight = jnp.linspace(0.1, 3, 16).astype(jnp.bfloat16)
    for norm in (wide, narrow):
        norm.weight.set_raw_value(weight)
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-6)
    assert jnp.array_equal(wide(x), (weight.astype(jnp.float32) * y).astype(jnp.bfloat16))
    assert not jnp.array_equal(wide(x), narrow(x))


@of_kind("embeddings")
def test_learned_positions_begin_at_a_later_row(case: str) -> None:
    ids, module = jnp.asarray(arrays(case)["input"]["input_ids"]), built(case)
    words = module.embed_tokens(ids)
    check(case, summed=module(words, None, module.positions(ids, words)))
