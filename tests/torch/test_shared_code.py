"""Classes that are shared with their code: what is written, what loads it, and what cannot be shared."""

import json

import pytest
import torch
from loopback_store import GOOD_TOKEN
from torch import nn

import loadstone
from loadstone import AutoModelForCausalLM
from loadstone.errors import ArgumentError
from loadstone_torch.modeling import PreTrainedModel
from tests import own_heads
from tests.torch.own_code import files, write

SHOAL = """
from torch import nn

from loadstone.outputs import ModelOutput
from loadstone_torch.modeling import PreTrainedModel

from .configuration_shoal import ShoalConfig


class ShoalModel(PreTrainedModel):
    config_class = ShoalConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = nn.Linear(config.size, 3)

    def forward(self, x):
        return ModelOutput(logits=self.line(x))
"""


def test_a_class_with_its_code(tmp_path, monkeypatch):
    own_heads.check_shared("torch", SHOAL, tmp_path, monkeypatch)


TALKING = """
from torch import nn

from loadstone.outputs import ModelOutput
from loadstone_torch.modeling import PreTrainedModel

from .configuration_shoal import ShoalConfig


class ShoalModel(PreTrainedModel):
    config_class = ShoalConfig

    def __init__(self, config):
        super().__init__(config)
        self.table = nn.Embedding(config.size, config.size)

    def forward(self, input_ids, **_):
        return ModelOutput(logits=self.table(input_ids))
"""


def test_a_shared_causal_model_generates_before_and_after(tmp_path, monkeypatch):
    counted = own_heads.CONFIGURATION + "    vocab_size: int = 6\n"
    monkeypatch.setattr(own_heads, "CONFIGURATION", counted)
    model = own_heads.check_shared("torch", TALKING, tmp_path, monkeypatch)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "shared", backend="torch", trust_remote_code=True)
    ids = torch.tensor([[1, 2]])
    told = model.eval().generate(ids, max_new_tokens=3)
    assert told.shape == (1, 5) and torch.equal(again.generate(ids, max_new_tokens=3), told)


def test_a_configuration_with_its_code(tmp_path, monkeypatch):
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path / "cache"))
    own_heads.written(tmp_path / "shoal_alone", SHOAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    from shoal_alone.configuration_shoal import ShoalConfig

    ShoalConfig(size=9).save_pretrained(tmp_path / "plain")
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["config.json"]
    assert ShoalConfig.from_pretrained(tmp_path / "plain").size == 9
    ShoalConfig.register_for_auto_class()
    config = ShoalConfig(size=9)
    config.save_pretrained(tmp_path / "shared")
    assert "auto_map" not in config.to_dict()
    found = loadstone.AutoConfig.from_pretrained(tmp_path / "shared", trust_remote_code=True)
    assert type(found).__name__ == "ShoalConfig" and found.size == 9
    with pytest.raises(ArgumentError, match="is a class of configurations"):
        ShoalConfig.register_for_auto_class("AutoModel")


def test_a_push_takes_the_code_along(hub, tmp_path, monkeypatch):
    model = own_heads.check_shared("torch", SHOAL, tmp_path, monkeypatch)
    commit = model.push_to_hub("org/shoal", token=GOOD_TOKEN)
    names = set(hub.repositories["org/shoal"].commits[commit.oid])
    assert {"configuration_shoal.py", "modeling_shoal.py", "names.py", "config.json"} <= names
    assert hub.repositories["org/shoal"].messages[commit.oid] == "Upload ShoalModel"
    again = loadstone.AutoModelForCausalLM.from_pretrained(
        "org/shoal", backend="torch", trust_remote_code=[f"org/shoal@{commit.oid}"], revision=commit.oid
    )
    assert torch.equal(again.line.weight, model.line.weight)


def test_code_in_folders_goes_along_and_weights_of_another_home_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path / "cache"))
    own = write(tmp_path / "own", files())
    model = loadstone.AutoModelForCausalLM.from_pretrained(own, trust_remote_code=True, backend="torch")
    model.save_pretrained(tmp_path / "saved")
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "parts" / "gate.py").read_bytes() == (own / "parts" / "gate.py").read_bytes()
    assert not list((tmp_path / "saved").glob("loadstone-save-*"))
    again = loadstone.AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", trust_remote_code=True, backend="torch"
    )
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_code_that_lies_in_no_file_of_its_own_is_an_error_before_a_byte_is_written(tmp_path):
    class Local(PreTrainedModel):
        config_class = own_heads.ReefConfig

        def __init__(self, config):
            super().__init__(config)
            self.line = nn.Linear(config.size, 3)

    model = Local(own_heads.ReefConfig())
    model.save_pretrained(tmp_path / "plain")
    assert "auto_map" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    Local.register_for_auto_class()
    with pytest.raises(ArgumentError, match="the code of Local cannot be saved"):
        model.save_pretrained(tmp_path / "shared")
    assert not (tmp_path / "shared").exists()
    with pytest.raises(ArgumentError, match="Trainer is no Auto class for models"):
        Local.register_for_auto_class("Trainer")


def test_code_that_imports_from_above_its_folder_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "__init__.py").write_text("")
    (tmp_path / "outer" / "above.py").write_text("WIDTH = 3\n")
    own_heads.written(tmp_path / "outer" / "shoal", SHOAL + "\nfrom ..above import WIDTH\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from outer.shoal.modeling_shoal import ShoalConfig, ShoalModel

    ShoalModel.register_for_auto_class("AutoModel")
    with pytest.raises(ArgumentError, match="from above its folder"):
        ShoalModel(ShoalConfig()).save_pretrained(tmp_path / "shared")


THEIRS = """
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class LineConfig(PretrainedConfig):
    model_type = "line-own"


class LineModel(PreTrainedModel):
    config_class = LineConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = nn.Linear(2, 3)
        self.post_init()
"""


def test_a_save_of_a_class_on_transformers_base_pushes_its_code(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path / "cache"))
    auto_map = {"AutoConfig": "lines.LineConfig", "AutoModel": "lines.LineModel"}
    values = {"model_type": "line-own", "auto_map": auto_map}
    weights = {"line.weight": torch.ones(3, 2), "line.bias": torch.zeros(3)}
    folder = write(tmp_path / "own", {"lines.py": THEIRS, "config.json": json.dumps(values)}, weights)
    model = loadstone.AutoModel.from_pretrained(folder, backend="torch", trust_remote_code=True)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    model.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="org/lines")
    again = loadstone.AutoModel.from_pretrained("org/lines", trust_remote_code=True)
    assert torch.equal(again.line.weight, weights["line.weight"])
    assert type(again).__name__ == "LineModel" and again.config.auto_map["AutoModel"].endswith(
        "lines.LineModel"
    )
