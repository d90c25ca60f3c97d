"""Models that are shared with their code: transformers loads them, where loadstone is installed."""

import importlib
import json
import sys

import pytest
import torch
import transformers

import loadstone
from tests import own_heads
from tests.neighbours.own_models import DECODER
from tests.neighbours.test_own_code import IDS, made

SHOAL = """
from torch import nn

from loadstone.outputs import ModelOutput
from loadstone_torch.modeling import PreTrainedModel

from .configuration_shoal import ShoalConfig
from .names import NAME


class ShoalModel(PreTrainedModel):
    config_class = ShoalConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = nn.Linear(config.size, 3)

    def forward(self, x):
        return ModelOutput(logits=self.line(x))
"""


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
    """Keep what tests trust away from this user's caches."""
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path_factory.mktemp("code")))
    modules = str(tmp_path_factory.mktemp("modules"))
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
    monkeypatch.syspath_prepend(modules)
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        monkeypatch.delitem(sys.modules, name)


def test_transformers_loads_a_class_of_ours_that_was_shared(tmp_path, monkeypatch):
    own_heads.written(tmp_path / "shoal_shared", SHOAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("shoal_shared.modeling_shoal")
    module.ShoalModel.register_for_auto_class("AutoModelForImageClassification")
    model = module.ShoalModel(module.ShoalConfig(size=6)).eval()
    model.save_pretrained(tmp_path / "shared")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "shared", trust_remote_code=True)
    assert (type(config).__name__, config.size) == ("ShoalConfig", 6)
    auto = transformers.AutoModelForImageClassification
    theirs, info = auto.from_pretrained(tmp_path / "shared", trust_remote_code=True, output_loading_info=True)
    assert type(theirs).__module__.startswith("transformers_modules.") and not info["missing_keys"]
    pixels = torch.linspace(-1, 1, 12).reshape(2, 6)
    assert torch.equal(theirs(pixels).logits, model(pixels).logits)
    half = auto.from_pretrained(tmp_path / "shared", trust_remote_code=True, dtype="bfloat16")
    assert half.line.weight.dtype == torch.bfloat16
    theirs.save_pretrained(tmp_path / "again")
    again = loadstone.AutoModelForImageClassification.from_pretrained(
        tmp_path / "again", trust_remote_code=True, backend="torch"
    )
    assert torch.equal(again(pixels).logits, model(pixels).logits)


LOUDER = """
import torch
from torch import nn

from loadstone import LlamaForCausalLM


class LouderForCausalLM(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.gain = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, *arguments, **keywords):
        found = super().forward(*arguments, **keywords)
        found["logits"] = found.logits * self.gain
        return found
"""


def test_transformers_loads_a_class_over_llama_that_was_shared(tmp_path, monkeypatch):
    (tmp_path / "louder_llama.py").write_text(LOUDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("louder_llama")
    module.LouderForCausalLM.register_for_auto_class("AutoModelForCausalLM")
    model = module.LouderForCausalLM(own_heads.LLAMA).eval()
    with torch.no_grad():
        model.gain.fill_(3)
    model.save_pretrained(tmp_path / "shared")
    said = json.loads((tmp_path / "shared" / "config.json").read_text())
    assert said["auto_map"] == {"AutoModelForCausalLM": "louder_llama.LouderForCausalLM"}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "shared", trust_remote_code=True)
    assert type(theirs).__name__ == "LouderForCausalLM" and theirs.gain == 3
    assert type(theirs.config) is loadstone.LlamaConfig and not theirs.load_report.names("new")
    assert torch.equal(theirs(IDS).logits, model(IDS).logits)
    ours = loadstone.AutoModelForCausalLM.from_pretrained(
        tmp_path / "shared", trust_remote_code=True, prefer_remote_code=True, backend="torch"
    )
    assert torch.equal(ours(IDS).logits, model(IDS).logits)


def test_a_class_on_transformers_base_is_saved_with_the_code_that_it_came_with(tmp_path):
    folder, reference = made(tmp_path / "own", "AutoModelForCausalLM", DECODER)
    model = loadstone.AutoModelForCausalLM.from_pretrained(folder, backend="torch", trust_remote_code=True)
    before = model.config.auto_map
    model.save_pretrained(tmp_path / "saved")
    assert model.config.auto_map == before
    said = json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"]
    assert "--" not in "".join(said.values())
    again = loadstone.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    assert torch.equal(again(IDS).logits, reference(IDS).logits)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    for (
        name,
        value,
    ) in reference.state_dict().items():  # transformers leaves the class's own rotary without values
        assert torch.equal(theirs.state_dict()[name], value), name
