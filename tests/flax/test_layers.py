"""Layers, losses and caches: which dtypes they compute in, and what they do with what does not fit."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import loadstone
from loadstone.errors import ArgumentError
from loadstone.testing.compare import relative_difference
from loadstone_flax.backend import FlaxBackend
from loadstone_flax.blocks.attention import attention
from loadstone_flax.generation import Cache
from loadstone_flax.layers import Dropout, Embedding
from loadstone_flax.losses import causal_lm_loss, cross_entropy, sequence_loss, span_loss, token_loss
from tests.oracle import load

pytestmark = pytest.mark.usefixtures("compile_little")
IDS = np.arange(6, 22).reshape(2, 8)
CASES = {
    "llama-causal-lm": "FlaxLlamaForCausalLM",
    "gpt2-causal-lm": "FlaxGPT2LMHeadModel",
    "bert-masked-lm": "FlaxBertForMaskedLM",
    "vit-image-classification": "FlaxViTForImageClassification",
}


def loaded(case: str, dtype: str) -> Any:
    folder = load.folder(case)
    return getattr(loadstone, CASES[case]).from_pretrained(folder, dtype=dtype)


def inputs_of(case: str) -> dict[str, Any]:
    return {n: v for n, v in load.run(case, "plain").inputs.items() if n in ("input_ids", "pixel_values")}


# Dtypes


@pytest.mark.parametrize("case", CASES)
def test_float16_computes_what_float32_does(case: str) -> None:
    inputs = inputs_of(case)
    expected = np.asarray(loaded(case, "float32")(**inputs).logits)
    logits = loaded(case, "float16")(**inputs).logits
    assert logits.dtype == jnp.float16
    assert relative_difference(np.asarray(logits, np.float32), expected) < 1e-2


@pytest.mark.parametrize("case", CASES)
def test_half_precision_accumulates_in_float32(case: str) -> None:
    model, inputs = loaded(case, "bfloat16"), inputs_of(case)
    text = str(jax.make_jaxpr(lambda params: model(**inputs, params=params).logits)(model.params))
    dots = text.count("dot_general[")
    assert dots and text.count("preferred_element_type=float32") >= dots
    assert "preferred_element_type=bfloat16" not in text


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_query_that_sees_nothing_stays_finite(dtype: str) -> None:
    q, k = (jnp.full((1, 3, heads, 8), 4.0, dtype) for heads in (4, 2))
    mask = jnp.arange(3)[:, None] > jnp.arange(3)  # the first sees nothing
    mixed, weights = attention(q, k, k, mask[None, None], scale=1.0, dropout=Dropout(0.0), eager=True)
    assert mixed.dtype == q.dtype and jnp.isfinite(mixed).all()
    assert weights is not None and weights.shape == (1, 4, 3, 3)
    assert (weights[0, :, 2, 2] == 0).all()


def test_float16_scores_may_exceed_what_float16_holds() -> None:
    q = jnp.full((1, 2, 1, 64), 50.0, jnp.float16)  # 64 * 50 * 50 > 65504
    mixed, _ = attention(q, q, q, None, scale=0.125, dropout=Dropout(0.0))
    assert jnp.isfinite(mixed).all()


def test_float64_needs_x64() -> None:
    folder = load.folder("llama-causal-lm")
    with pytest.raises(ArgumentError, match="jax_enable_x64"):
        loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, dtype="float64")
    backend = FlaxBackend()
    assert backend.capabilities.host_dtypes == {"int64", "uint64", "float64"}
    jax.config.update("jax_enable_x64", True)
    try:
        assert not backend.capabilities.host_dtypes
        wide = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, dtype="float64")
        assert wide(IDS).logits.dtype == jnp.float64
    finally:
        jax.config.update("jax_enable_x64", False)


def test_counters_of_64_bits_stay_on_the_host() -> None:
    model = loadstone.FlaxResNetModel.from_pretrained(load.folder("resnet-base"))
    counter = model.embedder.embedder.normalization.num_batches_tracked
    assert counter.get_value().dtype == np.int64
    assert any("num_batches_tracked" in name for name in model.load_report.kept_on_host)
    model.embedder.embedder.convolution.weight.set_raw_value(np.zeros((1, 1)))  # the first parameter
    assert isinstance(model.device, jax.Device)


# Indices


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_ids_that_no_row_has(dtype: Any) -> None:
    table = Embedding(300, 4, padding_idx=299)
    table.weight.set_value(jnp.ones((300, 4)))
    ids = jnp.asarray(np.array([-1, 5, -100], dtype))
    np.testing.assert_array_equal(table(ids)[:, 0], [np.nan, 1, np.nan])
    np.testing.assert_array_equal(table(jnp.array([5, 300]))[:, 0], [1, np.nan])
    np.testing.assert_array_equal(table(jnp.array([0, 255], jnp.uint8))[:, 0], [1, 1])


@pytest.mark.parametrize("wrong", [-1, -5, 3, 100])
def test_labels_that_no_class_has(wrong: int) -> None:
    logits = jnp.arange(12.0).reshape(4, 3)
    assert jnp.isnan(cross_entropy(logits, jnp.array([0, 1, wrong, 2])))
    assert jnp.isfinite(cross_entropy(logits, jnp.array([0, 1, -100, 2])))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint32])
def test_labels_of_any_integer_dtype(dtype: Any) -> None:
    logits = jnp.arange(800.0).reshape(1, 4, 200) % 7
    labels = np.array([[0, 1, 2, np.array(-100).astype(dtype) if dtype == np.uint8 else 3]])
    narrow = jnp.asarray(labels.astype(dtype))
    for loss in (causal_lm_loss, token_loss):
        assert loss(logits, narrow) == loss(logits, jnp.asarray(labels))
    starts = jnp.arange(300.0)[None]
    assert jnp.isfinite(span_loss(starts, starts, narrow[:, 0], narrow[:, 1]))


def test_labels_that_do_not_fit() -> None:
    logits = jnp.ones((4, 3))
    several, regression, single = (
        SimpleNamespace(problem_type=f"{name}", num_labels=3)
        for name in ("multi_label_classification", "regression", "single_label_classification")
    )
    for spec in (several, regression):
        assert jnp.isfinite(sequence_loss(logits, jnp.ones((4, 3)), spec))
        for shape in ((3,), (4, 1), (1, 3), ()):
            with pytest.raises(ArgumentError, match="do not fit the logits"):
                sequence_loss(logits, jnp.ones(shape), spec)
    with pytest.raises(ArgumentError, match="do not fit the logits"):
        sequence_loss(logits, jnp.ones(1, int), single)
    with pytest.raises(ArgumentError, match="integers"):
        cross_entropy(logits, jnp.ones(4))
    one = SimpleNamespace(problem_type=None, num_labels=1)
    assert sequence_loss(jnp.ones((4, 1)), jnp.ones(4), one) == 0
    with pytest.raises(ArgumentError, match="do not fit the logits"):
        sequence_loss(jnp.ones((4, 1)), jnp.ones(3), one)


# Inputs


@pytest.fixture(scope="module")
def model() -> Any:
    return loaded("llama-causal-lm", "float32")


def test_dropout_without_random_numbers_says_where_they_come_from() -> None:
    class Outer(nnx.Module):
        def __init__(self) -> None:
            self.body = loadstone.FlaxBertModel.from_pretrained(load.folder("bert-base"))

    outer = Outer()
    outer.train()
    with pytest.raises(ArgumentError, match=r"call train\(\) on the loadstone model"):
        outer.body(IDS)
    assert np.isfinite(outer.body(IDS, dropout_rng=jax.random.key(0)).last_hidden_state).all()
    outer.body.train()
    assert np.isfinite(outer.body(IDS).last_hidden_state).all()


def test_train_is_no_input(model: Any) -> None:
    with pytest.raises(ArgumentError, match=r"model\.train\(\) or model\.eval\(\)"):
        model(IDS, train=True)


def test_a_cache_may_be_a_tuple_of_pairs(model: Any) -> None:
    past = model(IDS).past_key_values
    expected = model(IDS[:, :1], past_key_values=past).logits
    pairs = tuple((np.asarray(k), v) for k, v in past)
    output = model(IDS[:, :1], past_key_values=pairs)
    np.testing.assert_array_equal(output.logits, expected)
    assert isinstance(output.past_key_values, Cache)


def test_an_empty_cache_reserves_nothing() -> None:
    with pytest.raises(ArgumentError, match="first call"):
        Cache().reserve(16)


@pytest.mark.parametrize(
    "mask", [(8,), (2, 7), (2, 9), (1, 8), (3, 8), (2, 1, 8), (2, 1, 1, 8)], ids=lambda shape: str(shape)
)
def test_masks_that_do_not_fit(model: Any, mask: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="does not fit the tokens"):
        model(IDS, attention_mask=np.ones(mask, int))


def test_masks_beside_a_cache(model: Any) -> None:
    past = model(IDS).past_key_values
    for cache, keys in ((past, 9), (past.reserve(4), 12)):
        call = {"input_ids": IDS[:, :1], "past_key_values": cache}
        assert np.isfinite(model(**call, attention_mask=np.ones((2, keys), int)).logits).all()
        with pytest.raises(ArgumentError, match="does not fit the tokens"):
            model(**call, attention_mask=np.ones((2, 1), int))


def test_masks_under_vmap_and_beside_embeddings(model: Any) -> None:
    mask = np.ones((2, 8), int)
    expected = model(IDS, attention_mask=mask).logits
    each = jax.vmap(lambda ids, mask: model(ids[None], attention_mask=mask[None]).logits[0])
    np.testing.assert_allclose(each(IDS, mask), expected, atol=1e-4)
    embeds = model.get_input_embeddings()(jnp.asarray(IDS))
    np.testing.assert_allclose(model(inputs_embeds=embeds, attention_mask=mask).logits, expected, atol=1e-5)
    with pytest.raises(ArgumentError, match="does not fit the tokens"):
        model(inputs_embeds=embeds, attention_mask=mask[:, 1:])


@pytest.mark.parametrize("ids", [IDS[0], IDS[None], IDS.astype(np.float32), IDS > 8, np.array(7)])
def test_token_ids_that_are_none(model: Any, ids: Any) -> None:
    with pytest.raises(ArgumentError, match="no table of token ids"):
        model(ids)


def test_choices_have_an_axis_of_their_own() -> None:
    chooser = loadstone.FlaxBertForMultipleChoice.from_pretrained(load.folder("bert-multiple-choice"))
    assert chooser(IDS[:, None], attention_mask=np.ones((2, 1, 8), int)).logits.shape == (2, 1)
    with pytest.raises(ArgumentError, match=r"\(B, N, T\)"):
        chooser(IDS)
    with pytest.raises(ArgumentError, match="does not fit the tokens"):
        chooser(IDS[:, None], attention_mask=np.ones((2, 8), int))
