"""Loading from arrays in the place of files: each framework's into each, numpy's into all."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import loadstone
from loadstone import FlaxLlamaForCausalLM, LlamaForCausalLM, TFLlamaForCausalLM
from loadstone.backend import get_backend
from loadstone.errors import ArgumentError, MatchError, PlacementError
from tests.torch.tiny import IDS, model_of

CLASSES = {"torch": LlamaForCausalLM, "flax": FlaxLlamaForCausalLM, "tensorflow": TFLlamaForCausalLM}


def bits(backend, model):
    known = get_backend(backend)
    read = {name: known.read(model, name) for name in known.parameters(model)}
    return {name: (one.dtype, one.shape, one.data.tobytes()) for name, one in read.items()}


def arrays(backend, model):
    """Return what users of a framework hold of a model."""
    if backend == "torch":
        return model.state_dict()
    if backend == "flax":
        return model.params
    return {weight.path.replace("/", "."): weight for weight in model.weights}


@pytest.fixture(scope="module")
def llama():
    return model_of("LlamaForCausalLM", dtype="bfloat16")


def test_each_frameworks_arrays_load_into_each(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    filed = {name: cls.from_pretrained(tmp_path) for name, cls in CLASSES.items()}
    for source, held in filed.items():
        state_dict = arrays(source, held)
        for target, cls in CLASSES.items():
            model = cls.from_pretrained(None, config=llama.config, state_dict=state_dict)
            assert bits(target, model) == bits("torch", llama), (source, target)
            plan, expected = model.load_report.plan, filed[target].load_report.plan
            assert plan.assignments.keys() == expected.assignments.keys()
            assert {a.state for a in plan.assignments.values()} == {"loaded"}
            assert {one.state for one in plan.stored.values()} == {"used"}
            assert model.load_report.loading_info() == filed[target].load_report.loading_info()


def test_numpys_arrays_and_a_configuration_by_its_name(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    model = loadstone.AutoModelForCausalLM.from_pretrained(
        None, config=tmp_path, state_dict=stored, dtype="float32", backend="torch"
    )
    assert model.load_report.names("cast") and not model.load_report.names("new")
    torch.testing.assert_close(model(IDS).logits, llama.float()(IDS).logits)
    report = loadstone.plan(None, config=tmp_path, state_dict=stored, task="CausalLM", backend="torch")
    assert report.plan.assignments.keys() == model.load_report.plan.assignments.keys()
    llama.bfloat16()


def test_memory_is_shared_where_it_can_be_and_never_between_parameters(llama):
    held = {name: value.clone() for name, value in llama.state_dict().items()}
    held["lm_head.weight"] = held["model.embed_tokens.weight"]
    config = llama.config
    model = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=held)
    assert model.model.norm.weight.data_ptr() == held["model.norm.weight"].data_ptr()
    one, other = model.model.embed_tokens.weight, model.lm_head.weight
    assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()
    copied = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=held, read="copy")
    assert copied.model.norm.weight.data_ptr() != held["model.norm.weight"].data_ptr()
    tied = type(config).from_dict(config.to_dict(), tie_word_embeddings=True)
    model = LlamaForCausalLM.from_pretrained(None, config=tied, state_dict=held)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_arrays_that_cannot_be_written_are_not_written(llama):
    held = {name: jnp.asarray(value.float().numpy()) for name, value in llama.state_dict().items()}
    before = np.array(held["model.norm.weight"])
    model = LlamaForCausalLM.from_pretrained(None, config=llama.config, state_dict=held, dtype="float32")
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    np.testing.assert_array_equal(held["model.norm.weight"], before)


def test_what_does_not_fit_is_an_error(llama, tmp_path):
    held = llama.state_dict()

    def load(name=None, config=llama.config, state_dict=held, **more):
        return LlamaForCausalLM.from_pretrained(name, config=config, state_dict=state_dict, **more)

    lacking = {name: value for name, value in held.items() if name != "model.norm.weight"}
    with pytest.raises(MatchError, match=r"model\.norm\.weight: missing"):
        load(state_dict=lacking)
    with pytest.raises(ArgumentError, match="from config= and state_dict="):
        load("org/name")
    with pytest.raises(ArgumentError, match="from config= and state_dict="):
        load(config=None)
    with pytest.raises(ArgumentError, match="variant= chooses between files"):
        load(variant="fp16")
    with pytest.raises(ArgumentError, match=r"lm_head: list"):
        load(state_dict={**held, "lm_head": [1.0]})
    with pytest.raises(ArgumentError, match="is no mapping"):
        load(state_dict=list(held))
    with pytest.raises(PlacementError, match="cannot stay on disk"):
        load(device_map="disk")
