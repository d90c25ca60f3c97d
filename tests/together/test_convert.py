"""One model in several frameworks of one process. torch is imported first: the other way round it crashes."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import torch  # isort: skip

import functools
import json
from typing import Any

import flax.nnx
import jax
import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone.backend import get_backend
from loadstone.errors import ArgumentError, MatchError
from loadstone.model.convert import ConversionReport
from loadstone.testing.cases import CASES
from tests.oracle import load

torch.set_num_threads(1)

IDS = np.array([[5, 17, 42, 8, 3], [11, 2, 60, 33, 7]])
ORDERS = (("torch", "flax", "tensorflow", "torch"), ("tensorflow", "torch", "flax", "tensorflow"))
FAMILIES = (
    "llama-causal-lm-tied",
    "gemma2-causal-lm",
    "bert-base-no-pooler",
    "bert-masked-lm",
    "gpt2-causal-lm",
    "distilbert-base",
    "roberta-token-classification",
    "vit-image-classification",
    "resnet-image-classification",
)


def fresh(backend: str, **fields: Any) -> Any:
    """Return a small Llama, every parameter of which is in memory of the framework's own."""
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    config = loadstone.LlamaConfig(**{**sizes, **heads, **fields})
    return loadstone.AutoModelForCausalLM.from_config(config, backend=backend)


def values(model: Any) -> dict[str, bytes]:
    """Return every parameter's dtype, shape and bytes."""
    backend = get_backend(model.backend_name)
    read = {name: backend.read(model, name) for name in backend.parameters(model)}
    return {name: f"{t.dtype}{t.shape}".encode() + t.data.tobytes() for name, t in read.items()}


def logits(model: Any) -> np.ndarray:
    ids = torch.from_numpy(IDS) if model.backend_name == "torch" else IDS
    found = model(input_ids=ids).logits
    return found.detach().numpy() if model.backend_name == "torch" else np.asarray(found)


def written_anew(model: Any, change: Any) -> None:
    """Give every parameter another value, by the means of its framework."""
    if model.backend_name == "torch":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(change(parameter))
    elif model.backend_name == "flax":
        flax.nnx.update(model, jax.tree.map(change, flax.nnx.state(model, flax.nnx.Param)))
    else:
        for variable in model.trainable_variables:
            variable.assign(change(variable))
            variable.value.assign_add(tf.zeros_like(variable.value))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("case", FAMILIES)
def test_a_round_through_all_frameworks_changes_no_bit(case: str, order: tuple[str, ...]) -> None:
    first, *others = order
    name = {"torch": "", "tensorflow": "TF"}[first] + CASES[case].class_name
    model = getattr(loadstone, name).from_pretrained(load.folder(case), **CASES[case].model_arguments)
    expected, start = values(model), model
    for backend in others:
        model = loadstone.to_backend(model, backend)
        assert model.backend_name == backend
        assert values(model) == expected
        assert model.config == start.config
        assert model.config is not start.config
        assert model.generation_config == start.generation_config
        assert model.load_report.metadata == start.load_report.metadata
    assert type(model) is type(start)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_memory_is_one_and_so_are_the_answers(order: tuple[str, ...]) -> None:
    models = [fresh(order[0])]
    for backend in order[1:]:
        models.append(loadstone.to_backend(models[-1], backend))
        assert not models[-1].load_report.copied
    addresses = [
        {name: backend.read(model, name).address for name in backend.parameters(model)}
        for model in models
        for backend in [get_backend(model.backend_name)]
    ]
    assert all(found == addresses[0] for found in addresses)
    for model in models[1:]:
        np.testing.assert_allclose(logits(model), logits(models[0]), atol=1e-5)


@pytest.mark.parametrize("target", ["torch", "flax", "tensorflow"])
@pytest.mark.parametrize("source", ["flax", "tensorflow"])
def test_jax_and_tensorflow_never_write_into_shared_memory(source: str, target: str) -> None:
    model = fresh(source)
    written_anew(model, lambda value: value * 2)  # now in memory of the framework's own
    twin = loadstone.to_backend(model, target)
    assert not twin.load_report.copied
    expected = values(twin)
    written_anew(model, lambda value: value + 1)
    assert values(twin) == expected
    if source == "flax":
        donating = functools.partial(jax.jit, donate_argnums=0)
        jax.block_until_ready(donating(lambda params: jax.tree.map(lambda p: p + 1, params))(model.params))
        assert values(twin) == expected


def test_training_in_tensorflow_leaves_the_torch_model_alone() -> None:
    model = fresh("torch")
    expected = values(model)
    twin = loadstone.to_backend(model, "tensorflow")
    with tf.GradientTape() as tape:
        loss = twin(input_ids=IDS, labels=IDS).loss
    gradients = tape.gradient(loss, [variable.value for variable in twin.trainable_variables])
    keras.optimizers.SGD(0.1).apply(gradients, twin.trainable_variables)
    assert values(twin) != expected
    assert values(model) == expected


@pytest.mark.parametrize("target", ["torch", "flax", "tensorflow"])
def test_torch_writes_into_shared_memory_unless_copied(target: str) -> None:
    model = fresh("torch")
    shared, apart = (loadstone.to_backend(model, target, copy=copy) for copy in (False, True))
    assert set(apart.load_report.copied.values()) == {"copy=True"}
    before = values(model)
    written_anew(model, lambda value: value + 1)
    assert values(apart) == before
    assert values(shared) == values(model) != before


def test_ties_stay_and_are_told() -> None:
    for backend in ("flax", "tensorflow", "torch"):
        twin = loadstone.to_backend(fresh("torch"), backend)
        parameters = get_backend(backend).parameters(twin)
        tied = [parameters[name].identity for name in ("lm_head.weight", "model.embed_tokens.weight")]
        assert tied[0] == tied[1]
        assert "lm_head.weight = model.embed_tokens.weight" in str(twin.load_report)
    apart = fresh("torch")
    apart.lm_head.weight = torch.nn.Parameter(apart.lm_head.weight.detach() + 1)
    twin = loadstone.to_backend(apart, "flax")
    assert values(twin) == values(apart), "what the model holds counts, not what its configuration says"


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_stays_where_the_framework_has_one(training: bool) -> None:
    config = loadstone.BertConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = loadstone.BertModel.from_config(config).train(training)
    twin = loadstone.to_backend(model, "flax")
    assert twin.training is training
    assert loadstone.to_backend(twin, "torch").training is training


def test_floats_are_cast_where_asked_for() -> None:
    model = fresh("torch")
    twin = loadstone.to_backend(model, "flax", dtype=torch.bfloat16)
    read = get_backend("flax").read(twin, "model.norm.weight")
    assert read.dtype == "bfloat16"
    expected = model.lm_head.weight.detach().bfloat16().view(torch.uint16).numpy()
    found = get_backend("flax").read(twin, "lm_head.weight").data.view(np.uint16).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert set(twin.load_report.copied.values()) == {"cast from float32"}
    again = loadstone.to_backend(twin, "tensorflow")
    assert values(again) == values(twin)
    assert not again.load_report.copied


def test_the_report_says_what_is_shared_and_why_not() -> None:
    model = fresh("torch")
    odd = torch.zeros(65 * 64 + 1)[1:].view(65, 64)[:64]
    model.model.layers[0].self_attn.q_proj.weight = torch.nn.Parameter(odd)
    model.model.layers[1].mlp.up_proj.weight = torch.nn.Parameter(torch.ones(64, 128).T)
    report = loadstone.to_backend(model, "flax").load_report
    assert isinstance(report, ConversionReport)
    assert report.copied == {
        "model.layers.0.self_attn.q_proj.weight": "its address is no multiple of 64",
        "model.layers.1.mlp.up_proj.weight": "torch gives only copies of it",
    }
    assert set(report.shared) | set(report.copied) == set(report.plan.assignments) - {"lm_head.weight"}
    title, sizes, *_ = str(report).splitlines()
    assert title == "FlaxLlamaForCausalLM (flax) from LlamaForCausalLM (torch)"
    assert sizes == "  263.4 kB shared, 49.2 kB copied, on cpu"
    json.dumps(report.to_dict())


def test_a_converted_model_saves_and_loads(tmp_path: Any) -> None:
    model = loadstone.LlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm-tied"))
    model.save_pretrained(tmp_path / "torch")
    twin = loadstone.to_backend(model, "flax")
    twin.save_pretrained(tmp_path / "flax")
    for path in (tmp_path / "torch").iterdir():
        assert (tmp_path / "flax" / path.name).read_bytes() == path.read_bytes()
    assert values(loadstone.TFLlamaForCausalLM.from_pretrained(tmp_path / "flax")) == values(model)


def test_what_cannot_be_converted_is_refused() -> None:
    model = fresh("torch")
    with pytest.raises(ArgumentError, match="that loadstone made"):
        loadstone.to_backend(torch.nn.Linear(2, 2), "flax")
    with pytest.raises(ArgumentError, match="cannot be cast"):
        loadstone.to_backend(model, "flax", dtype="int8")
    with pytest.raises(loadstone.LoadstoneError, match="caffe"):
        loadstone.to_backend(model, "caffe")
    model.model.norm.register_parameter("bias", torch.nn.Parameter(torch.zeros(64)))
    with pytest.raises(MatchError, match="other parameters") as error:
        loadstone.to_backend(model, "flax")
    assert error.value.problems == ("model.norm.bias: only the model has it",)
    assert "merge_and_unload" in error.value.hint
