"""Classes of one's own that derive from ours, registered as transformers' users register them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import loadstone
from loadstone import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from loadstone.backend.registered import unregister
from loadstone.errors import ArchitectureError, ArgumentError
from tests.torch.tiny import IDS, LLAMA, model_of


class MyConfig(LlamaConfig):
    """Llama's, with a field more."""

    model_type = "my-llama"

    gain: float = 1.0


class MyForCausalLM(LlamaForCausalLM):
    """Llama's, with its logits scaled."""

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """As Llama's."""
        found = super().forward(*arguments, **keywords)
        found["logits"] = found.logits * self.config.gain
        return found


class MyModel(LlamaModel):
    """Llama's."""


@pytest.fixture
def config() -> Iterator[type[MyConfig]]:
    """The configuration, registered for the time of a test."""
    AutoConfig.register("my-llama", MyConfig)
    yield MyConfig
    unregister("my-llama")


def test_save_and_load(config: type[MyConfig], tmp_path: Path) -> None:
    AutoModelForCausalLM.register(config, MyForCausalLM)
    model = AutoModelForCausalLM.from_config(config(**LLAMA, gain=3.0), seed=0).eval()
    assert type(model) is MyForCausalLM
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["model_type"], saved["architectures"], saved["gain"]) == ("my-llama", ["MyForCausalLM"], 3)
    for door in (AutoModelForCausalLM, MyForCausalLM, loadstone.MyForCausalLM):
        again = door.from_pretrained(tmp_path)
        assert type(again) is MyForCausalLM and type(again.config) is MyConfig
        assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert type(AutoModel.from_pretrained(tmp_path)) is LlamaModel, "what is not registered is the parent's"
    AutoModel.register(config, MyModel)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (type(again), type(again.base_model)) == (MyForCausalLM, MyModel)


def test_a_checkpoint_of_the_parents_loads_into_it(config: type[MyConfig], tmp_path: Path) -> None:
    AutoModelForCausalLM.register(config, MyForCausalLM)
    theirs = model_of("LlamaForCausalLM")
    theirs.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, model_type="my-llama", gain=2.0)
    assert type(model) is MyForCausalLM and not model.load_report.names("new")
    assert torch.equal(model(IDS).logits, 2 * theirs(IDS).logits)


def test_a_second_class_replaces_the_first_only_where_the_caller_says_so(config: type[MyConfig]) -> None:
    AutoModelForCausalLM.register(config, MyForCausalLM)
    AutoModelForCausalLM.register(config, MyForCausalLM)
    other = type("OtherForCausalLM", (LlamaForCausalLM,), {"__module__": __name__})
    with pytest.raises(ArgumentError, match="another class is registered as 'MyForCausalLM'"):
        AutoModelForCausalLM.register(config, other)
    AutoModelForCausalLM.register(config, other, exist_ok=True)
    made = AutoModelForCausalLM.from_config(config(**LLAMA))
    assert type(made) is other
    assert not hasattr(loadstone, "MyForCausalLM") and loadstone.OtherForCausalLM is other


def test_what_cannot_be_registered_is_told(config: type[MyConfig]) -> None:
    with pytest.raises(ArgumentError, match="another architecture is registered as 'my-llama'"):
        AutoConfig.register("my-llama", MyConfig)
    AutoConfig.register("my-llama", MyConfig, exist_ok=True)
    with pytest.raises(ArgumentError, match="has a configuration of another model type"):
        AutoConfig.register("mine", MyConfig)
    with pytest.raises(ArgumentError, match="only a class of configurations can be registered"):
        AutoConfig.register("bare", type("Bare", (), {"model_type": "bare"}))
    with pytest.raises(ArgumentError, match="LlamaConfig is not registered"):
        AutoModelForCausalLM.register(LlamaConfig, MyForCausalLM)
    with pytest.raises(ArchitectureError, match="has no head for MaskedLM"):
        loadstone.AutoModelForMaskedLM.register(config, MyForCausalLM)
    with pytest.raises(ArgumentError, match="FlaxAutoModelForCausalLM loads into the backend 'flax'"):
        loadstone.FlaxAutoModelForCausalLM.register(config, MyForCausalLM, backend="torch")
    with pytest.raises(ArgumentError, match="MyForCausalLM is no model class of the backend 'flax'"):
        loadstone.FlaxAutoModelForCausalLM.register(config, MyForCausalLM)
    with pytest.raises(ArgumentError, match="Plain is no model class of the backend 'torch'"):
        AutoModelForCausalLM.register(config, type("Plain", (), {}))
    said = type("Said", (LlamaForCausalLM,), {"config_class": LlamaConfig, "__module__": __name__})
    with pytest.raises(ArgumentError, match="Said has another config_class"):
        AutoModelForCausalLM.register(config, said)
    with pytest.raises(ArchitectureError, match="LlamaForCausalLM cannot be"):
        AutoModelForCausalLM.register(config, LlamaForCausalLM)
