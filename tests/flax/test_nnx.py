"""A loaded model is an ordinary nnx module, and its parameters are an ordinary pytree."""

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx

import loadstone
from loadstone.errors import ArgumentError
from loadstone.testing.compare import assert_close
from tests.oracle import load

CASE = "llama-causal-lm-tied"
IDS = np.arange(6, 22).reshape(2, 8)
LABELS = np.where(IDS % 5, IDS, -100)


pytestmark = pytest.mark.usefixtures("compile_little")


@pytest.fixture
def model() -> Any:
    return loadstone.FlaxLlamaForCausalLM.from_pretrained(load.folder(CASE))


@pytest.fixture
def classifier() -> Any:
    """A model with dropout."""
    return loadstone.FlaxBertForTokenClassification.from_pretrained(load.folder("bert-token-classification"))


def test_split_and_merge(model: Any) -> None:
    graphdef, state = nnx.split(model)
    assert hash(graphdef) == hash(nnx.split(model)[0])
    assert {type(leaf) for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, nnx.Variable))} == {
        nnx.Param
    }
    merged = nnx.merge(graphdef, state)
    assert merged.config is model.config
    assert sorted(merged.params) == sorted(model.params)
    np.testing.assert_array_equal(merged(IDS).logits, model(IDS).logits)


def test_a_tied_parameter_is_one(model: Any) -> None:
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in model.params
    assert model.num_parameters() == sum(value.size for value in model.params.values())
    grown = jax.tree.map(lambda value: value * 2, nnx.state(model))
    nnx.update(model, grown)
    np.testing.assert_array_equal(model.lm_head.weight[...], model.params["model.embed_tokens.weight"])


def test_nnx_jit(model: Any) -> None:
    expected = model(IDS).logits
    logits = nnx.jit(lambda model, ids: model(ids).logits)(model, IDS)
    assert_close(logits, np.asarray(expected), what="nnx.jit")
    unchanged = nnx.jit(lambda model, ids: model(ids).logits, graph_updates=False)(model, IDS)
    assert_close(unchanged, np.asarray(expected), what="nnx.jit without updates")


def test_nnx_grad_equals_the_functional_gradient(model: Any) -> None:
    of_model = nnx.grad(lambda model: model(IDS, labels=LABELS).loss)(model)
    of_params = jax.grad(lambda params: model(IDS, labels=LABELS, params=params).loss)(model.params)
    flat = {".".join(map(str, path)): value[...] for path, value in nnx.to_flat_state(of_model)}
    # nnx calls a tied parameter by the first of its names in alphabetical order.
    flat["model.embed_tokens.weight"] = flat.pop("lm_head.weight")
    assert flat.keys() == of_params.keys()
    for name, gradient in of_params.items():
        assert np.abs(gradient).max() > 0, name
        np.testing.assert_allclose(flat[name], gradient, atol=1e-6, err_msg=name)


def test_params_are_what_the_model_computes_with(model: Any) -> None:
    params = model.params
    np.testing.assert_array_equal(model(IDS, params=params).logits, model(IDS).logits)
    doubled = {name: value * 2 for name, value in params.items()}
    inside = jax.jit(lambda params, ids: model(ids, params=params).logits)(doubled, IDS)
    outside = model(IDS, params=doubled).logits
    assert_close(inside, np.asarray(outside), what="inside a program of the caller's")
    assert np.abs(outside - model(IDS).logits).max() > 0.1
    np.testing.assert_array_equal(model.params["model.norm.weight"], params["model.norm.weight"])


def test_params_of_other_names_are_refused(model: Any) -> None:
    params = model.params
    params["lm_head.weight"] = params.pop("model.norm.weight")
    with pytest.raises(ArgumentError) as raised:
        model(IDS, params=params)
    assert "missing: model.norm.weight" in str(raised.value) and "unknown: lm_head.weight" in str(
        raised.value
    )


def test_params_of_other_shapes_are_refused(model: Any) -> None:
    params = model.params
    params["model.norm.weight"] = params["model.norm.weight"][:-1]
    del params["model.embed_tokens.weight"]
    for call in (model.with_params, lambda params: setattr(model, "params", params)):
        with pytest.raises(ArgumentError) as raised:
            call(params)
        assert [problem.split(":")[0] for problem in raised.value.problems] == [
            "missing",
            "model.norm.weight",
        ]


def test_params_of_several_models_at_once(model: Any) -> None:
    several = {name: jnp.stack((value, value * 2)) for name, value in model.params.items()}
    logits = jax.vmap(lambda params: model(IDS, params=params).logits)(several)
    doubled = {name: value[1] for name, value in several.items()}
    np.testing.assert_allclose(logits[1], model(IDS, params=doubled).logits, atol=1e-4)


def test_a_tie_outlives_other_params(model: Any, tmp_path: Any) -> None:
    other = model.with_params(model.params)
    assert other.lm_head.weight is other.model.embed_tokens.weight
    assert other.lm_head.weight is not model.lm_head.weight
    assert other.num_parameters() == model.num_parameters() and other.params.keys() == model.params.keys()
    stored = []
    for name, saved in (("model", model), ("other", other)):
        saved.save_pretrained(tmp_path / name)
        stored.append((tmp_path / name / "model.safetensors").read_bytes())
    assert stored[0] == stored[1]


def test_params_are_set_in_place(model: Any) -> None:
    doubled = {name: value * 2 for name, value in model.params.items()}
    expected = model(IDS, params=doubled).logits
    norm = model.model.norm.weight
    model.params = doubled
    assert model.model.norm.weight is norm and model.lm_head.weight is model.model.embed_tokens.weight
    np.testing.assert_array_equal(model(IDS).logits, expected)


def test_params_whose_predecessors_were_donated(model: Any) -> None:
    step = jax.jit(lambda params: jax.tree.map(lambda value: value + 1, params), donate_argnums=0)
    params = step(jax.tree.map(jnp.copy, model.params))
    first = model(IDS, params=params).logits
    nnx.update(model, jax.tree.map(jnp.copy, nnx.state(model)))
    held = model.params
    step(held)
    assert any(value.is_deleted() for value in held.values())
    np.testing.assert_array_equal(model(IDS, params=params).logits, first)


def test_an_optax_step_on_params(model: Any) -> None:
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any, Any]:
        loss, gradients = jax.value_and_grad(lambda p: model(IDS, labels=LABELS, params=p).loss)(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    params, state = model.params, optimizer.init(model.params)
    losses = []
    for _ in range(3):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[2] < losses[1] < losses[0]


def test_an_optax_step_on_the_model(model: Any) -> None:
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda model: model(IDS, labels=LABELS).loss)(model)
        optimizer.update(model, gradients)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_dropout_draws_anew_in_training_and_never_in_evaluation(classifier: Any) -> None:
    still = classifier(IDS).logits
    np.testing.assert_array_equal(classifier(IDS).logits, still)
    classifier.train()
    first, second = classifier(IDS).logits, classifier(IDS).logits
    assert np.abs(first - second).max() > 0 and np.abs(first - still).max() > 0
    classifier.eval()
    np.testing.assert_allclose(classifier(IDS).logits, still, atol=1e-6)
    assert nnx.state(classifier, nnx.RngCount)


def test_dropout_is_seeded(classifier: Any) -> None:
    classifier.train()
    nnx.reseed(classifier, dropout=7)
    first = classifier(IDS).logits
    nnx.reseed(classifier, dropout=7)
    np.testing.assert_array_equal(classifier(IDS).logits, first)
    nnx.reseed(classifier, dropout=8)
    assert np.abs(classifier(IDS).logits - first).max() > 0


def test_dropout_under_grad(classifier: Any) -> None:
    classifier.train()
    labels = IDS % 3

    def loss(params: Any, **more: Any) -> Any:
        return classifier(IDS, labels=labels, params=params, **more).loss

    one, same, other = (
        jax.grad(loss)(classifier.params, dropout_rng=jax.random.key(seed)) for seed in (1, 1, 2)
    )
    name = "classifier.weight"
    np.testing.assert_array_equal(one[name], same[name])
    assert np.abs(one[name] - other[name]).max() > 0
    with pytest.raises(ArgumentError, match="dropout_rng="):
        jax.grad(loss)(classifier.params)
    before = classifier.dropout.rngs.count.item()
    nnx.grad(lambda model: model(IDS, labels=labels).loss)(classifier)
    assert classifier.dropout.rngs.count.item() == before + 1


def test_outputs_are_pytrees_that_keep_their_names(model: Any) -> None:
    output = jax.jit(lambda ids: model(ids, output_hidden_states=True))(IDS)
    assert list(output) == ["logits", "past_key_values", "hidden_states"]
    shapes = jax.tree.map(jnp.shape, output)
    assert type(shapes) is type(output) and shapes.logits == (2, 8, 67)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(output)]
    assert "['logits']" in paths and "['past_key_values'].layers[0][1]" in paths


def test_orbax_round_trip(model: Any, tmp_path: Any) -> None:
    state = nnx.state(model)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.tree.map(jnp.zeros_like, state))
    other = nnx.merge(nnx.split(model)[0], restored)
    np.testing.assert_array_equal(other(IDS).logits, model(IDS).logits)


def test_copies(model: Any) -> None:
    expected = model(IDS).logits
    for other in (copy.deepcopy(model), nnx.clone(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(IDS).logits, expected)
        assert other.lm_head.weight is other.model.embed_tokens.weight
        assert other.config == model.config


def test_settings_of_the_configuration_are_read_at_each_call(model: Any) -> None:
    assert list(model(IDS)) == ["logits", "past_key_values"]
    model.config.use_cache = False
    assert list(model(IDS)) == ["logits"]
    model.config.return_dict = False
    assert isinstance(model(IDS), tuple)


def test_inputs_may_be_lists_numpy_or_jax(model: Any) -> None:
    expected = model(IDS).logits
    for ids in (IDS.tolist(), IDS.astype(np.int32), jnp.asarray(IDS)):
        np.testing.assert_array_equal(model(ids).logits, expected)
        np.testing.assert_array_equal(model(input_ids=ids, attention_mask=None).logits, expected)
    with pytest.raises(ArgumentError, match="by position and by name"):
        model(IDS, input_ids=IDS)
    with pytest.raises(ArgumentError, match="exactly one"):
        model()


def test_fresh_models_equal_those_of_from_config() -> None:
    config = loadstone.AutoConfig.from_pretrained(load.folder(CASE))
    model = loadstone.FlaxLlamaForCausalLM(config, seed=1)
    other = loadstone.FlaxAutoModelForCausalLM.from_config(config, dtype="float32", seed=1)
    assert type(model) is type(other)
    for name, value in model.params.items():
        np.testing.assert_array_equal(value, other.params[name])
    assert model.dtype == jnp.float32 and model.params["model.layers.0.mlp.up_proj.weight"].std() > 0.01
    assert loadstone.FlaxLlamaForCausalLM(config, dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_facts_about_a_model(model: Any) -> None:
    assert model.dtype == jnp.float32
    assert model.device == jax.devices()[0]
    assert model.base_model is model.model
    assert model.get_input_embeddings() is model.model.embed_tokens
    assert model.get_output_embeddings() is model.lm_head
    assert model.base_model.get_output_embeddings() is None
    assert model.load_report.backend == "flax"


def test_resized_embeddings(model: Any) -> None:
    before = model(IDS).logits
    model.resize_token_embeddings(70)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    after = model(IDS).logits
    assert after.shape == (2, 8, 70)
    np.testing.assert_allclose(after[..., :67], before, atol=1e-5)


@pytest.mark.parametrize("copied", [nnx.clone, lambda model: model.with_params(model.params), copy.deepcopy])
def test_a_copy_is_resized_alone(model: Any, copied: Any, tmp_path: Any) -> None:
    other = copied(model)
    other.resize_token_embeddings(70)
    other.generation_config = other.load_report = None
    assert other.config.vocab_size == other.base_model.config.vocab_size == 70
    assert model.config.vocab_size == model.base_model.config.vocab_size == 67
    assert model.generation_config is not None and model.load_report is not None
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(IDS).logits, model(IDS).logits)
    other.generation_config = model.generation_config
    other.save_pretrained(tmp_path / "other")
    assert type(model).from_pretrained(tmp_path / "other").lm_head.weight.shape[0] == 70


def test_running_statistics_are_no_parameters() -> None:
    model = loadstone.FlaxResNetForImageClassification.from_pretrained(
        load.folder("resnet-image-classification")
    )
    recorded = load.run("resnet-image-classification", "proof").inputs
    assert not [name for name in model.params if "running" in name or "num_batches" in name]
    still = model(recorded["pixel_values"]).logits
    gradients = jax.grad(lambda params: model(**recorded, params=params).loss)(model.params)
    assert np.abs(gradients["classifier.1.weight"]).max() > 0

    mean = model.resnet.embedder.embedder.normalization.running_mean
    before = np.array(mean[...])
    with pytest.raises(ArgumentError, match=r"nnx\.grad"):
        model.train()
        jax.grad(lambda params: model(**recorded, params=params).loss)(model.params)
    nnx.grad(lambda model: model(**recorded).loss)(model)
    assert np.abs(mean[...] - before).max() > 0
    model.eval()
    assert np.abs(model(recorded["pixel_values"]).logits - still).max() > 0
