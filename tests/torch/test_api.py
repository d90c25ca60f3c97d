"""What users of transformers expect of loading with the PyTorch classes: the guide, classes, errors."""

import json
import os
import sys

import pytest
import torch
from torch import nn

import loadstone
from loadstone import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)
from loadstone.errors import (
    ArchitectureError,
    ArgumentError,
    CheckpointError,
    ConfigError,
)
from loadstone.modeling_utils import load_sharded_checkpoint
from tests.oracle.files import edit_config
from tests.torch.tiny import BERT, IDS, same, state

torch.set_num_threads(1)


# The guide


def test_one_model_in_three_tasks(folders):
    for cls, name in (
        (AutoModelForCausalLM, "LlamaForCausalLM"),
        (AutoModelForSequenceClassification, "LlamaForSequenceClassification"),
        (AutoModelForQuestionAnswering, "LlamaForQuestionAnswering"),
    ):
        model = cls.from_pretrained(folders["llama"], dtype="auto", device_map="auto")
        assert type(model).__name__ == name
        assert not model.training
        assert torch.equal(
            model.base_model.norm.weight, LlamaModel.from_pretrained(folders["llama"]).norm.weight
        )


def test_one_task_with_several_models(folders):
    for name, cls in (
        ("classifier", LlamaForSequenceClassification),
        ("labels", BertForSequenceClassification),
    ):
        model = AutoModelForSequenceClassification.from_pretrained(folders[name])
        assert type(model) is cls
        assert model(IDS[:1]).logits.shape == (1, 3)


def test_loading_by_the_models_own_class(folders):
    assert type(AutoModel.from_pretrained(folders["llama"])) is LlamaModel
    assert type(LlamaModel.from_pretrained(folders["llama"])) is LlamaModel
    assert isinstance(LlamaForCausalLM.from_pretrained(folders["llama"]), nn.Module)


def test_shards_as_the_guide_writes_and_reads_them(llama, tmp_path):
    llama.save_pretrained(tmp_path, max_shard_size="10KB")
    files = sorted(os.listdir(tmp_path))
    assert "model.safetensors.index.json" in files and "model.safetensors" not in files
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index.keys() == {"metadata", "weight_map"}
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in llama.state_dict().values())
    assert set(index["weight_map"].values()) == {name for name in files if name.endswith(".safetensors")}
    again = LlamaForCausalLM.from_config(llama.config)
    assert not same(state(again), state(llama))
    load_sharded_checkpoint(again, tmp_path)
    assert same(state(again), state(llama))


def test_a_configuration_then_a_model(folders):
    config = AutoConfig.from_pretrained(folders["llama"], num_hidden_layers=1)
    model = AutoModel.from_config(config)
    assert len(model.layers) == 1
    assert model.training, "a fresh model is to be trained"
    assert isinstance(AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **BERT)), BertForMaskedLM)


# Classes that do not fit


def test_a_class_of_another_model_type(folders):
    with pytest.raises(ArchitectureError, match="BertModel cannot hold a checkpoint of model type 'llama'"):
        BertModel.from_pretrained(folders["llama"])


def test_a_task_that_the_architecture_has_not(folders):
    with pytest.raises(ArchitectureError, match="'llama' has no head for MaskedLM") as caught:
        AutoModelForMaskedLM.from_pretrained(folders["llama"])
    assert "AutoModelForCausalLM" in str(caught.value)


def test_a_class_of_one_framework_refuses_another(folders):
    with pytest.raises(ArgumentError, match="LlamaModel is of the backend 'torch'"):
        LlamaModel.from_pretrained(folders["llama"], backend="flax")
    with pytest.raises(ArgumentError, match="FlaxAutoModel loads into the backend 'flax'"):
        loadstone.FlaxAutoModel.from_pretrained(folders["llama"], backend="torch")
    assert LlamaModel.from_pretrained(folders["llama"], backend="torch") is not None


def test_auto_classes_are_not_made():
    with pytest.raises(TypeError, match=r"call AutoModelForCausalLM\.from_pretrained"):
        AutoModelForCausalLM()


def test_a_misspelt_public_name_names_the_nearest():
    with pytest.raises(AttributeError, match=r"did you mean .*LlamaForCausalLM"):
        _ = loadstone.LlamaForCasualLM


def test_a_subclass_that_only_computes_otherwise(folders):
    class Louder(LlamaForCausalLM):
        def forward(self, *arguments, **named):
            return 2 * super().forward(*arguments, **named).logits

    louder, plain = (cls.from_pretrained(folders["llama"]) for cls in (Louder, LlamaForCausalLM))
    assert type(louder) is Louder
    assert torch.equal(louder(IDS), 2 * plain(IDS).logits)


def test_an_adapter_folder_names_peft(tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "org/base", "peft_type": "LORA"}'
    )
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    for load in (
        AutoModelForCausalLM.from_pretrained,
        LlamaModel.from_pretrained,
        loadstone.plan,
        AutoConfig.from_pretrained,
    ):
        with pytest.raises(CheckpointError, match="PEFT") as caught:
            load(tmp_path)
        assert "load the base model" in str(caught.value)


# No code of a checkpoint is run


@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": False}])
def test_no_code_of_a_checkpoint_is_run(folder, trust, tmp_path):
    marker = tmp_path / "was_run"
    for name in ("modeling_evil.py", "configuration_evil.py", "evil/kernels.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open({str(marker)!r}, 'w')\nclass Evil: ...\n")
    edit_config(
        folder,
        auto_map={"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
        _attn_implementation=str(folder / "evil"),
        attn_implementation="evil/kernels",
        _attn_implementation_internal="evil/kernels",
        custom_pipelines={"evil": {"impl": "modeling_evil.Evil"}},
        trust_remote_code=True,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, **trust)
    assert type(model) is LlamaForCausalLM
    assert model.attn_implementation == "sdpa"
    assert model(IDS).logits.isfinite().all()
    assert not marker.exists()
    assert not any("evil" in name for name in sys.modules)


# Nested configurations


def test_a_nested_text_config(folder):
    values = json.loads((folder / "config.json").read_text())
    nested = {
        key: values.pop(key) for key in list(values) if key not in ("model_type", "architectures", "dtype")
    }
    (folder / "config.json").write_text(json.dumps(values | {"text_config": nested | {"dtype": "bfloat16"}}))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert len(model.model.layers) == 3
    model.resize_token_embeddings(64)
    assert model.config.get_text_config().vocab_size == 64
    assert len(AutoModelForCausalLM.from_pretrained(folder, num_hidden_layers=2).model.layers) == 2


def test_a_configuration_that_describes_nothing(folder):
    edit_config(folder, num_attention_heads=5)
    with pytest.raises(ConfigError, match="must be a multiple"):
        AutoModelForCausalLM.from_pretrained(folder)


# The report


def test_the_plan_before_and_the_report_after(folders):
    before = loadstone.plan(folders["llama"])
    after = LlamaForCausalLM.from_pretrained(folders["llama"]).load_report
    assert before.plan == after.plan
    assert (before.bytes_read, after.bytes_read, after.seconds > 0) == (None, 0, True)
    text = str(after)
    assert "LlamaForCausalLM (torch)" in text and "model.layers.{0...2}.self_attn.q_proj.weight" in text
    assert len(text.splitlines()) <= 40
    json.dumps(after.to_dict())


def test_a_plan_names_its_class(folders):
    assert loadstone.plan(folders["bert"]).model_class == "BertForMaskedLM", (
        "the one that the checkpoint was saved from"
    )
    assert loadstone.plan(folders["bert"], model_class="BertModel").model_class == "BertModel"
    assert loadstone.plan(folders["bert"], task="SequenceClassification").names("new")
    with pytest.raises(ArchitectureError, match="'bert' has no class BertForChess"):
        loadstone.plan(folders["bert"], model_class="BertForChess")
