"""What users of transformers expect of loading with the PyTorch classes: names, arguments, errors."""

import copy
import json
import logging
import os
import sys

import numpy as np
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
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)
from loadstone.errors import (
    ArchitectureError,
    ArgumentError,
    CheckpointError,
    ConfigError,
    MatchError,
    PlacementError,
)
from loadstone.modeling_utils import load_sharded_checkpoint
from tests.oracle.files import copied, edit_config, rewrite, tensors
from tests.torch.tiny import BERT, IDS, model_of, same, state

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


# Arguments


def test_a_model_comes_back_ready(llama, folders):
    assert not llama.training
    assert all(not module.training for module in llama.modules())
    assert llama.device == torch.device("cpu")
    assert llama.dtype == torch.float32
    assert isinstance(llama.config, LlamaConfig)
    assert llama.num_parameters() == sum(p.numel() for p in llama.parameters())
    assert llama.get_input_embeddings() is llama.model.embed_tokens
    assert llama.get_output_embeddings() is llama.lm_head
    assert all(p.requires_grad for p in llama.parameters())
    assert set(llama.state_dict()) == set(tensors(folders["llama"]))
    assert llama.load_report.names("loaded")


@pytest.mark.parametrize("spelling", [torch.float16, "float16", "torch.float16", "half", "fp16", np.float16])
@pytest.mark.parametrize("argument", ["dtype", "torch_dtype"])
def test_a_dtype_in_any_spelling(folders, spelling, argument):
    model = LlamaForCausalLM.from_pretrained(folders["llama"], **{argument: spelling})
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert model.config.dtype == model.config.torch_dtype == "float16"
    held = tensors(folders["llama"])["lm_head.weight"]
    assert np.array_equal(model.lm_head.weight.detach().numpy(), held.astype(np.float16))


def test_auto_takes_the_configurations_dtype_and_stored_the_files(folder):
    edit_config(folder, dtype="bfloat16")
    for argument in ({}, {"dtype": "auto"}, {"torch_dtype": "auto"}, {"dtype": None}):
        model = LlamaForCausalLM.from_pretrained(folder, **argument)
        assert model.dtype == torch.bfloat16
        assert model.load_report.dtype_origin == "config"
        assert len(model.load_report.names("cast")) == len(model.state_dict())
    assert LlamaForCausalLM.from_pretrained(folder, dtype="stored").dtype == torch.float32


def test_stored_keeps_a_mixed_checkpoint_mixed(folder):
    held = tensors(folder)
    held["model.norm.weight"] = held["model.norm.weight"].astype(np.float16)
    rewrite(folder, held)
    model = LlamaForCausalLM.from_pretrained(folder, dtype="stored")
    assert (model.model.norm.weight.dtype, model.dtype) == (torch.float16, torch.float32)
    assert same(state(model), {name: torch.from_numpy(value) for name, value in held.items()} | {})


def test_dtypes_that_disagree(folders):
    with pytest.raises(ArgumentError, match="dtype and torch_dtype disagree"):
        LlamaForCausalLM.from_pretrained(folders["llama"], dtype="float16", torch_dtype="bfloat16")
    assert (
        LlamaForCausalLM.from_pretrained(folders["llama"], dtype="float16", torch_dtype="float16").dtype
        == torch.float16
    )


@pytest.mark.parametrize("device_map", [None, "auto", "cpu", torch.device("cpu"), {"": "cpu"}])
def test_a_device_that_is_there(folders, device_map):
    assert AutoModel.from_pretrained(folders["llama"], device_map=device_map).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ("cpuu", "PyTorch knows no device 'cpuu'"),
        ("meta", "no device 'meta' here"),
        ("balanced", "not there yet"),
        ({"model": "cpu", "lm_head": "disk"}, "a device map of 2 entries"),
    ],
)
def test_a_device_that_is_not(folders, device_map, message):
    with pytest.raises(PlacementError, match=message):
        AutoModel.from_pretrained(folders["llama"], device_map=device_map)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device_map", ["cuda", 0, "cuda:1", torch.device("cuda")])
def test_no_gpu(folders, device_map):
    with pytest.raises(PlacementError, match=r"there is no device 'cuda:\d' here"):
        AutoModel.from_pretrained(folders["llama"], device_map=device_map)


def test_a_configuration_in_place_of_the_checkpoints(folders):
    config = LlamaConfig.from_pretrained(folders["llama"])
    config.rope_theta = 77.0
    before = copy.deepcopy(config)
    model = LlamaForCausalLM.from_pretrained(folders["llama"], config=config, attention_dropout=0.1)
    assert (model.config.rope_theta, model.config.attention_dropout) == (77.0, 0.1)
    assert config == before, "the caller's own is not changed"
    assert (
        LlamaForCausalLM.from_pretrained(folders["llama"], config=str(folders["llama"])).config.rope_theta
        == 10000.0
    )


@pytest.mark.parametrize("how", ["keyword", "config"])
def test_fewer_layers_by_the_callers_own_word(folders, how):
    fewer = {"num_hidden_layers": 1}
    config = AutoConfig.from_pretrained(folders["llama"], **fewer)
    model = LlamaForCausalLM.from_pretrained(
        folders["llama"], **(fewer if how == "keyword" else {"config": config})
    )
    assert len(model.model.layers) == 1
    ignored = model.load_report.plan.stored_in_state("ignored")
    assert len(ignored) == 18
    assert {one.why for one in ignored} == {"the caller's arguments leave it out"}


def test_options_of_the_model_class(folders):
    model = BertModel.from_pretrained(folders["labels"], add_pooling_layer=False)
    assert model.pooler is None
    assert model(IDS).pooler_output is None
    assert {one.name for one in model.load_report.plan.stored_in_state("ignored")} == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_fields_of_the_configuration(folders):
    model = BertForSequenceClassification.from_pretrained(
        folders["bert"],
        num_labels=5,
        id2label=dict(enumerate("abcde")),
        problem_type="regression",
        hidden_dropout_prob=0.0,
    )
    assert model.classifier.out_features == 5
    assert model.config.id2label[4] == "e"
    assert set(model.load_report.names("new")) >= {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dtipe", "dtype"),
        ("num_lables", "num_labels"),
        ("local_file_only", "local_files_only"),
        ("revison", "revision"),
        ("ad_pooling_layer", "add_pooling_layer"),
        ("hidden_sise", "hidden_size"),
    ],
)
def test_an_argument_that_nobody_knows(folders, name, near):
    with pytest.raises(ArgumentError) as caught:
        BertModel.from_pretrained(folders["bert"], **{name: 1})
    assert isinstance(caught.value, TypeError)
    assert f"knows no argument {name!r}" in str(caught.value) and f"did you mean {near}" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["max_memory", "offload_folder", "quantization_config", "from_tf", "gguf_file"]
)
def test_arguments_that_are_not_there_yet(folders, name):
    with pytest.raises(ArgumentError, match=f"{name}= is not there yet"):
        AutoModel.from_pretrained(folders["llama"], **{name: "something"})
    assert AutoModel.from_pretrained(folders["llama"], **{name: None}) is not None


@pytest.mark.parametrize("name", ["low_cpu_mem_usage", "trust_remote_code", "weights_only"])
def test_arguments_that_change_nothing(folders, name):
    assert AutoModel.from_pretrained(folders["llama"], **{name: True}).load_report.names("loaded")


def test_loading_info(folders):
    model, info = BertForSequenceClassification.from_pretrained(
        folders["labels"], num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert info == {
        "missing_keys": set(),
        "unexpected_keys": set(),
        "mismatched_keys": {("classifier.weight", (3, 24), (5, 24)), ("classifier.bias", (3,), (5,))},
        "error_msgs": [],
    }
    assert model.classifier.weight.std() < 0.1, "drawn afresh"
    _, info = BertForSequenceClassification.from_pretrained(folders["bert"], output_loading_info=True)
    assert info["missing_keys"] == {
        f"{name}.{leaf}" for name in ("classifier", "bert.pooler.dense") for leaf in ("weight", "bias")
    }


def test_mismatched_sizes_are_an_error_unless_asked_for(folders):
    with pytest.raises(MatchError) as caught:
        BertForSequenceClassification.from_pretrained(folders["labels"], num_labels=5)
    assert "classifier.weight: expected shape [5, 24], found [3, 24]" in str(caught.value)


def test_new_parameters_are_the_same_for_the_same_seed(folders):
    def drawn(seed):
        return AutoModelForSequenceClassification.from_pretrained(
            folders["bert"], seed=seed
        ).classifier.weight

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_new_parameters_are_warned_of_once(folders, caplog):
    with caplog.at_level(logging.WARNING, logger="loadstone"):
        AutoModelForSequenceClassification.from_pretrained(folders["bert"])
    (record,) = caplog.records
    assert "BertForSequenceClassification: newly drawn, to be trained before use: " in record.message
    assert "classifier.weight" in record.message


def test_a_variant(folders, tmp_path):
    folder = copied(folders["llama"], tmp_path / "copy")
    other = model_of("LlamaForCausalLM", seed=2)
    other.save_pretrained(folder, variant="fp16")
    assert (folder / "model.fp16.safetensors").exists()
    assert same(state(LlamaForCausalLM.from_pretrained(folder, variant="fp16")), state(other))
    assert not same(state(LlamaForCausalLM.from_pretrained(folder)), state(other))
    with pytest.raises(CheckpointError, match="no weights of the variant 'fp8'"):
        LlamaForCausalLM.from_pretrained(folder, variant="fp8")


def test_a_subfolder(folders, tmp_path):
    copied(folders["llama"], tmp_path / "a" / "b")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, subfolder="a/b")
    assert same(state(model), state(LlamaForCausalLM.from_pretrained(folders["llama"])))


def test_a_path_in_any_form(folders, monkeypatch):
    monkeypatch.chdir(folders["llama"].parent)
    for name in (folders["llama"], str(folders["llama"]), "llama", "./llama", "llama/"):
        assert AutoModel.from_pretrained(name).load_report.location == str(name)


@pytest.mark.parametrize("read", ["auto", "map", "copy"])
def test_ways_to_read(folders, read):
    model = LlamaForCausalLM.from_pretrained(folders["llama"], read=read)
    report, size = model.load_report, sum(t.nbytes for t in tensors(folders["llama"]).values())
    assert (report.bytes_mapped, report.bytes_read) == ((0, size) if read == "copy" else (size, 0))
    with pytest.raises(ArgumentError, match="unknown read mode 'mapp'"):
        LlamaForCausalLM.from_pretrained(folders["llama"], read="mapp")


def test_writing_to_a_mapped_model_leaves_the_file_alone(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = LlamaForCausalLM.from_pretrained(folder, read="map")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (folder / "model.safetensors").read_bytes() == before
    assert LlamaForCausalLM.from_pretrained(folder).lm_head.weight.abs().sum() > 0


def test_attention_implementations(folders):
    eager = LlamaForCausalLM.from_pretrained(folders["llama"], attn_implementation="eager")
    sdpa = LlamaForCausalLM.from_pretrained(folders["llama"])
    assert (eager.model.attn_implementation, sdpa.model.attn_implementation) == ("eager", "sdpa")
    assert torch.allclose(eager(IDS).logits, sdpa(IDS).logits, atol=1e-5)
    with pytest.raises(ArgumentError, match="unknown attn_implementation 'flash_attention_2'"):
        LlamaForCausalLM.from_pretrained(folders["llama"], attn_implementation="flash_attention_2")


@pytest.mark.parametrize("strict", [None, True, False])
def test_strictness(folder, strict, caplog):
    rewrite(folder, tensors(folder) | {"stranger": np.zeros(3, np.float32)})
    if strict:
        with pytest.raises(MatchError, match="stranger: surplus, and strict=True allows none"):
            LlamaForCausalLM.from_pretrained(folder, strict=strict)
        return
    _, info = LlamaForCausalLM.from_pretrained(folder, strict=strict, output_loading_info=True)
    assert info["unexpected_keys"] == {"stranger"}
    assert [r.message for r in caplog.records] == [
        f"{folder}: stored tensors that no parameter takes: stranger"
    ]


def test_renaming_by_key_mapping(folder):
    held = tensors(folder)
    rewrite(folder, {name.replace("model.", "language_model."): value for name, value in held.items()})
    model = LlamaForCausalLM.from_pretrained(folder, key_mapping={"^language_model": "model"})
    assert same(state(model), {name: torch.from_numpy(value) for name, value in held.items()})


def test_an_old_names_checkpoint(folders, tmp_path):
    folder = copied(folders["bert"], tmp_path / "copy")
    held = tensors(folder)
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in held.items()
    }
    rewrite(folder, old | {"bert.embeddings.position_ids": np.arange(32)[None]})
    model = BertForMaskedLM.from_pretrained(folder)
    assert same(state(model), state(BertForMaskedLM.from_pretrained(folders["bert"])))
    assert model.load_report.names("ignored") == ["bert.embeddings.position_ids"]


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


def test_a_subclass_with_a_parameter_of_its_own_is_an_error(folders):
    class Larger(LlamaForCausalLM):
        def __init__(self, config):
            super().__init__(config)
            self.extra = nn.Linear(4, 4)

    with pytest.raises(MatchError) as caught:
        Larger.from_pretrained(folders["llama"])
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "extra.weight: missing",
        "extra.bias: missing",
    ]


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
