"""Gradient checkpointing: layers are computed again in the backward pass, and gradients are the same."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import loadstone
from loadstone.errors import ArgumentError
from loadstone.testing.case import PROOF
from loadstone.testing.cases import CASES
from tests.oracle import load

pytestmark = pytest.mark.usefixtures("compile_little")


def loaded(case: str) -> Any:
    cls = getattr(loadstone, f"Flax{CASES[case].class_name}")
    return cls.from_pretrained(load.folder(case), **CASES[case].model_arguments)


def inputs_of(case: str) -> dict[str, Any]:
    return dict(load.run(case, PROOF).inputs)


def gradients(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    return jax.jit(jax.grad(lambda params: model(**inputs, params=params).loss))(model.params)


def recomputed(model: Any, inputs: dict[str, Any]) -> int:
    """Return how many layers the program of a forward marks to be computed again."""
    program = jax.make_jaxpr(lambda params: model(**inputs, params=params).loss)(model.params)
    return str(program).count("prevent_cse=")


@pytest.mark.parametrize("case", ["llama-causal-lm-tied", "bert-masked-lm"])
def test_gradients_are_the_same(case: str) -> None:
    model, inputs = loaded(case), inputs_of(case)
    expected = gradients(model, inputs)
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing and recomputed(model, inputs) == model.spec.num_layers
    found = gradients(model, inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


def test_dropout_drops_the_same_again() -> None:
    sizes = {"dim": 12, "hidden_dim": 16, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 8}
    config = loadstone.DistilBertConfig(vocab_size=40, dropout=0.3, attention_dropout=0.3, **sizes)
    model = loadstone.FlaxDistilBertForMaskedLM(config, seed=1)
    ids = np.arange(5, 21).reshape(2, 8)
    inputs = {"input_ids": ids, "labels": ids, "dropout_rng": jax.random.key(3)}
    expected = gradients(model, inputs)
    model.gradient_checkpointing_enable()
    found = gradients(model, inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    drawn = model.distilbert.transformer.layer[0].ffn.dropout.rngs.count
    before = drawn.get_value().item()
    model(ids)
    assert drawn.get_value().item() == before + 1


def kept(model: Any, inputs: dict[str, Any]) -> int:
    """Return the bytes that wait for the backward pass beside the parameters."""
    _, backward = jax.vjp(lambda params: model(**inputs, params=params).loss, model.params)
    parameters = {value.unsafe_buffer_pointer() for value in model.params.values()}
    arrays = [leaf for leaf in jax.tree.leaves(backward) if isinstance(leaf, jax.Array)]
    return sum(array.nbytes for array in arrays if array.unsafe_buffer_pointer() not in parameters)


def test_activations_are_not_kept() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    model = loadstone.FlaxLlamaForCausalLM(loadstone.LlamaConfig(vocab_size=16, **sizes), seed=0)
    ids = np.full((2, 64), 7, np.int32)
    inputs = {"input_ids": ids, "labels": ids, "use_cache": False}
    whole = kept(model, inputs)
    model.gradient_checkpointing_enable(every_n_layers=2)
    half = kept(model, inputs)
    model.gradient_checkpointing_enable()
    least = kept(model, inputs)
    assert 4 * least < 2 * half < 1.5 * whole
    model.gradient_checkpointing_enable({"policy": jax.checkpoint_policies.everything_saveable})
    assert kept(model, inputs) > half


def test_some_layers_or_none() -> None:
    model, inputs = loaded("llama-causal-lm"), inputs_of("llama-causal-lm")
    layers = model.spec.num_layers
    assert model.supports_gradient_checkpointing and recomputed(model, inputs) == 0
    model.gradient_checkpointing_enable(every_n_layers=2)
    assert recomputed(model, inputs) == (layers + 1) // 2
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing and recomputed(model, inputs) == 0


def test_a_cache_is_kept_only_where_it_is_asked_for() -> None:
    model, ids = loaded("llama-causal-lm"), np.arange(6, 14)[None]
    written = model.generate(ids, max_new_tokens=3)
    model.gradient_checkpointing_enable()
    assert "past_key_values" not in model(ids)
    cached = model(ids, use_cache=True)
    step = model(ids[:, :1], past_key_values=cached.past_key_values)
    assert step.past_key_values.get_seq_length() == 9
    np.testing.assert_array_equal(model.generate(ids, max_new_tokens=3), written)
    model.train()
    assert "past_key_values" not in model(ids, use_cache=True)
    model.gradient_checkpointing_disable()
    assert "past_key_values" in model(ids)


def test_copies_recompute_too_and_under_nnx_transforms() -> None:
    model, inputs = loaded("gpt2-causal-lm"), inputs_of("gpt2-causal-lm")
    expected = nnx.grad(lambda model: model(**inputs).loss)(model)
    model.gradient_checkpointing_enable()
    graphdef, state = nnx.split(model)
    for twin in (nnx.merge(graphdef, state), nnx.clone(model)):
        assert twin.is_gradient_checkpointing and recomputed(twin, inputs) == model.spec.num_layers
    found = nnx.jit(nnx.grad(lambda model: model(**inputs).loss))(model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


def test_models_without_layers_refuse() -> None:
    resnet = loaded("resnet-base")
    assert not resnet.supports_gradient_checkpointing
    with pytest.raises(ArgumentError, match="no layers"):
        resnet.gradient_checkpointing_enable()
