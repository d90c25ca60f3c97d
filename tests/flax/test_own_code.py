"""Code that comes with a checkpoint, in Flax: found under a key of its own, loaded by the engine."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import loadstone
from loadstone import FlaxAutoModel, FlaxAutoModelForCausalLM
from loadstone.errors import ArchitectureError, UntrustedCodeError

CODE = """
from loadstone import Config
from loadstone.outputs import ModelOutput
from loadstone_flax.layers import Embedding, Linear
from loadstone_flax.modeling import PreTrainedModel


class TinyConfig(Config):
    model_type = "tiny-own"
    hidden_size: int = 4
    vocab_size: int = 11


class FlaxTinyForCausalLM(PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.table = Embedding(config.vocab_size, config.hidden_size)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)

    def __call__(self, input_ids):
        return ModelOutput(logits=self.lm_head(self.table(input_ids)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "code.py").write_text(CODE)
    auto_map = {"AutoConfig": "code.TinyConfig", "FlaxAutoModelForCausalLM": "code.FlaxTinyForCausalLM"}
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny-own", "auto_map": auto_map}))
    shapes = {"table.weight": (11, 4), "lm_head.weight": (11, 4), "lm_head.bias": (11,)}
    numbers = np.random.default_rng(0)
    weights = {name: numbers.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder, weights


def test_its_model_is_loaded_by_the_engine(own):
    folder, weights = own
    model = FlaxAutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__name__ == "FlaxTinyForCausalLM"
    expected = weights["table.weight"][[1, 5]] @ weights["lm_head.weight"].T + weights["lm_head.bias"]
    np.testing.assert_allclose(model(jnp.array([[1, 5]])).logits[0], expected, rtol=1e-5)
    states = {a.state for a in model.load_report.plan.assignments.values()}
    assert states == {"loaded"}
    assert loadstone.plan(folder, backend="flax", trust_remote_code=True).model_class == "FlaxTinyForCausalLM"


def test_its_model_runs_from_disk(own):
    """It is called by a method of its own, which knows nothing of what comes and goes."""
    folder, weights = own
    model = FlaxAutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, device_map="disk")
    expected = weights["table.weight"][[1, 5]] @ weights["lm_head.weight"].T + weights["lm_head.bias"]
    np.testing.assert_allclose(model(jnp.array([[1, 5]])).logits[0], expected, rtol=1e-5)
    assert model.load_report.bytes_read == model.load_report.bytes_mapped == 0


def test_a_key_that_is_not_there_and_no_trust(own):
    folder, _ = own
    with pytest.raises(ArchitectureError, match="no class for FlaxAutoModel"):
        FlaxAutoModel.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(UntrustedCodeError, match=r"code.py"):
        FlaxAutoModelForCausalLM.from_pretrained(folder)
