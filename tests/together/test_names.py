"""The names by which libraries written for transformers ask a model: the same answers in every framework."""

import torch  # isort: skip  # first: after TensorFlow it crashes

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone.backend import get_backend
from loadstone.errors import PlacementError
from tests.oracle import load

FRAMEWORK = {"torch": "pt", "tensorflow": "tf", "flax": "flax"}
TIED = "llama-causal-lm-tied"
IDS = np.array([[5, 6, 7, 9, 9]])


@pytest.fixture(params=FRAMEWORK)
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def loaded(backend: str, task: str, case: str, **arguments: Any) -> Any:
    model_class = getattr(loadstone, f"AutoModel{task}")
    return model_class.from_pretrained(load.folder(case), backend=backend, **arguments)


def test_what_a_model_says_of_itself(backend: str) -> None:
    model = loaded(backend, "ForCausalLM", TIED)
    assert model.framework == FRAMEWORK[backend]
    assert model.main_input_name == type(model).main_input_name == "input_ids"
    assert model.config_class is type(model).config_class is loadstone.LlamaConfig
    assert model.can_generate()
    assert model.get_decoder() is model.base_model
    assert model.post_init() is None
    assert model.num_labels == model.config.num_labels
    assert model.config._attn_implementation == model.attn_implementation
    assert model.config.name_or_path == str(load.folder(TIED))
    base = loaded(backend, "", "vit-base")
    assert base.main_input_name == "pixel_values"
    assert not base.can_generate()
    assert base.get_decoder() is base
    base_class = next(cls for cls in type(model).__mro__ if cls.__name__ == "PreTrainedModel")
    assert not hasattr(base_class, "config_class"), "nothing describes it"


def test_the_memory_of_a_tied_model_counts_once(backend: str) -> None:
    model = loaded(backend, "ForCausalLM", TIED)
    arrays = {id_of: p for p in get_backend(backend).parameters(model).values() for id_of in [p.identity]}
    expected = sum(4 * int(np.prod(parameter.shape)) for parameter in arrays.values())
    buffers = sum(buffer.nbytes for buffer in model.buffers()) if backend == "torch" else 0
    assert model.get_memory_footprint() == expected + buffers


def test_ties_are_made_again(backend: str) -> None:
    model, kind = loaded(backend, "ForCausalLM", TIED), get_backend(backend)
    expected = np.asarray(loadstone.to_backend(model, "torch")(torch.tensor(IDS)).logits.detach())
    model.tie_weights()
    parameters = kind.parameters(model)
    assert parameters["lm_head.weight"].identity == parameters["model.embed_tokens.weight"].identity
    found = model(torch.tensor(IDS) if backend == "torch" else IDS).logits
    np.testing.assert_allclose(
        np.asarray(found.detach() if backend == "torch" else found), expected, atol=1e-4
    )


def test_a_map_to_one_device(backend: str) -> None:
    where = next(device.name for device in get_backend(backend).devices() if device.is_host)
    model = loaded(backend, "ForCausalLM", TIED, device_map={"model": where, "lm_head": where})
    assert model.hf_device_map == {"model": where, "lm_head": where}
    assert not hasattr(loaded(backend, "ForCausalLM", TIED), "hf_device_map")
    with pytest.raises(PlacementError, match="names no device"):
        loaded(backend, "ForCausalLM", TIED, device_map={"lm_head": where})


def test_saving_takes_what_transformers_scripts_pass(backend: str, tmp_path: Path) -> None:
    model = loaded(backend, "ForCausalLM", TIED)
    model.save_pretrained(tmp_path, save_function=print, push_to_hub=False, token=None)
    assert loaded(backend, "ForCausalLM", TIED).config == model.config
    assert (tmp_path / "config.json").exists()


def test_attention_as_the_configuration_has_it(backend: str) -> None:
    config = loadstone.AutoConfig.from_pretrained(load.folder(TIED), attn_implementation="eager")
    model = loadstone.AutoModelForCausalLM.from_config(config, backend=backend)
    assert model.attn_implementation == model.base_model.attn_implementation == "eager"
