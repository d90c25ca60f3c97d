"""What users of transformers expect of the PyTorch classes: names, arguments, outputs, saving."""

import copy
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))

from tiny import IDS, LLAMA, model_of, saved

import loadstone
from loadstone import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
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
from tests.oracle.files import edit_config, rewrite, tensors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> the folder of a tiny checkpoint; nobody writes into them."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "llama": saved(root / "llama", "LlamaForCausalLM"),
        "tied": saved(root / "tied", "LlamaForCausalLM", tie_word_embeddings=True),
        "classifier": saved(root / "classifier", "LlamaForSequenceClassification", num_labels=3),
        "bert": saved(root / "bert", "BertForMaskedLM"),
        "labels": saved(root / "labels", "BertForSequenceClassification"),
    }


@pytest.fixture
def llama(folders):
    return LlamaForCausalLM.from_pretrained(folders["llama"])


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of the Llama checkpoint that a test may change."""
    return copied(folders["llama"], tmp_path / "copy")


def copied(source, target):
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    """Whether two state dicts hold the same names, dtypes and bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


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
    assert isinstance(
        AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **SMALL_BERT)), BertForMaskedLM
    )


SMALL_BERT = {
    "vocab_size": 9,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
}


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


# Outputs


def test_outputs_by_name_key_and_place(llama):
    output = llama(IDS, labels=IDS)
    assert output[0] is output.loss is output["loss"]
    assert output[1] is output.logits is output["logits"]
    assert list(output.keys())[:2] == ["loss", "logits"]
    assert output.to_tuple()[1] is output.logits
    assert output[:2] == (output.loss, output.logits)
    assert output.hidden_states is None and "hidden_states" not in output
    with pytest.raises(AttributeError, match="no field 'logit'; did you mean logits"):
        _ = output.logit


def test_a_tuple_where_no_dict_is_wanted(llama):
    named, plain = llama(IDS), llama(IDS, return_dict=False)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], named.logits) and len(plain) == len(named)
    llama.config.return_dict = False
    assert isinstance(llama(IDS), tuple)


def test_outputs_that_were_asked_for(llama):
    output = llama(IDS, output_hidden_states=True, output_attentions=True, use_cache=False)
    assert len(output.hidden_states) == 4 and output.hidden_states[0].shape == (2, 6, 24)
    assert len(output.attentions) == 3 and output.attentions[0].shape == (2, 4, 6, 6)
    assert output.past_key_values is None
    llama.config.output_hidden_states = True
    assert len(llama(IDS).hidden_states) == 4


@pytest.mark.parametrize("keep", [0, 1, 3, torch.tensor([0, 2])])
def test_logits_to_keep(llama, keep):
    whole, kept = llama(IDS).logits, llama(IDS, logits_to_keep=keep).logits
    expected = whole[:, keep] if isinstance(keep, torch.Tensor) else whole[:, -keep:] if keep else whole
    assert torch.allclose(kept, expected, atol=1e-6)


def test_labels_give_the_loss(llama):
    labels = IDS.clone()
    labels[0, 3:] = -100
    output = llama(IDS, labels=labels)
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert torch.allclose(output.loss, expected)


def test_embeddings_in_place_of_ids(llama):
    embeds = llama.get_input_embeddings()(IDS)
    assert torch.allclose(llama(inputs_embeds=embeds).logits, llama(IDS).logits, atol=1e-6)
    for wrong in ({}, {"input_ids": IDS, "inputs_embeds": embeds}):
        with pytest.raises(ArgumentError, match="exactly one of input_ids and inputs_embeds"):
            llama(**wrong)


def test_inputs_of_bert(folders):
    model = AutoModelForSequenceClassification.from_pretrained(folders["labels"])
    mask = torch.ones_like(IDS)
    mask[:, 4:] = 0
    changed = IDS.clone()
    changed[:, 4:] = 7
    output = model(
        input_ids=IDS, attention_mask=mask, token_type_ids=torch.zeros_like(IDS), labels=torch.tensor([0, 2])
    )
    assert torch.allclose(output.logits, model(changed, attention_mask=mask).logits, atol=1e-6)
    assert not torch.allclose(output.logits, model(IDS).logits, atol=1e-3)
    assert torch.allclose(output.loss, F.cross_entropy(output.logits, torch.tensor([0, 2])))


# Generation


def test_generation_is_the_likeliest_token_each_time(llama):
    ids = IDS
    for _ in range(5):
        ids = torch.cat((ids, llama(ids).logits[:, -1:].argmax(-1)), dim=1)
    found = llama.generate(IDS, max_new_tokens=5, eos_token_id=-1, do_sample=False)
    assert torch.equal(found, ids)
    assert torch.equal(llama.generate(input_ids=IDS, max_new_tokens=5, eos_token_id=-1, use_cache=False), ids)


def test_padding_on_the_left_changes_no_continuation(llama):
    prompts = [[1, 5, 9], [1, 5, 9, 33, 2, 60]]
    alone = [
        llama.generate(torch.tensor([p]), max_new_tokens=6, eos_token_id=-1)[0, len(p) :] for p in prompts
    ]
    ids = torch.tensor([[0, 0, 0, *prompts[0]], prompts[1]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1] * 6])
    together = llama.generate(ids, attention_mask=mask, max_new_tokens=6, eos_token_id=-1)
    assert torch.equal(together[:, 6:], torch.stack(alone))


def test_lengths(llama):
    assert llama.generate(IDS, max_new_tokens=3, eos_token_id=-1).shape == (2, 9)
    assert llama.generate(IDS, max_length=8, eos_token_id=-1).shape == (2, 8)
    assert llama.generate(IDS, max_length=8, max_new_tokens=4, eos_token_id=-1).shape == (2, 10)
    llama.generation_config.max_new_tokens = 2
    assert llama.generate(IDS, eos_token_id=-1).shape == (2, 8)
    assert llama.generate(IDS, max_length=9, eos_token_id=-1).shape == (2, 9), "the caller's word counts"
    with pytest.raises(ArgumentError, match="leaves no room"):
        llama.generate(IDS, max_length=6)


@pytest.mark.parametrize("several", [False, True])
def test_a_sequence_ends_with_any_end_token(llama, several):
    free = llama.generate(IDS[:1], max_new_tokens=8, eos_token_id=-1)[0, 6:].tolist()
    end = free[2]
    found = llama.generate(IDS[:1], max_new_tokens=8, eos_token_id=[60, end, 59] if several else end)[
        0, 6:
    ].tolist()
    assert found == free[: free.index(end) + 1]


def test_a_sequence_that_ended_is_filled_with_padding(llama):
    free = llama.generate(IDS, max_new_tokens=8, eos_token_id=-1)[:, 6:].tolist()
    end = next(t for t in free[0] if t not in free[1])
    found = llama.generate(IDS, max_new_tokens=8, eos_token_id=end, pad_token_id=55)[:, 6:].tolist()
    stop = free[0].index(end) + 1
    assert found[0] == free[0][:stop] + [55] * (8 - stop)
    assert found[1] == free[1]


def test_generation_config_is_read_honoured_and_saved(folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder)
    free = model.generate(IDS[:1], max_new_tokens=8, eos_token_id=-1)[0, 6:].tolist()
    settings = {
        "eos_token_id": [60, free[1]],
        "max_new_tokens": 5,
        "pad_token_id": 0,
        "unheard_of": {"kept": True},
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == [60, free[1]]
    assert model.generate(IDS[:1])[0, 6:].tolist() == free[: free.index(free[1]) + 1]
    assert model.generate(IDS[:1], eos_token_id=-1)[0, 6:].tolist() == free[:5]
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text()) == settings


def test_arguments_of_generate_that_nobody_knows(llama, folders):
    with pytest.raises(ArgumentError, match="did you mean max_new_tokens"):
        llama.generate(IDS, max_new_token=3)
    with pytest.raises(ArgumentError, match="BertForMaskedLM cannot generate"):
        BertForMaskedLM.from_pretrained(folders["bert"]).generate(IDS)


# Saving


@pytest.mark.parametrize("name", ["llama", "tied", "classifier", "bert", "labels"])
@pytest.mark.parametrize("size", ["5GB", "12KB"])
def test_load_save_load_is_equal_key_for_key_and_bit_for_bit(folders, tmp_path, name, size):
    model = AutoModel.from_pretrained(folders[name])
    task = {"llama": AutoModelForCausalLM, "tied": AutoModelForCausalLM, "bert": AutoModelForMaskedLM}
    cls = task.get(name, AutoModelForSequenceClassification)
    model = cls.from_pretrained(folders[name])
    model.save_pretrained(tmp_path, max_shard_size=size)
    held = {}
    for file in tmp_path.glob("*.safetensors"):
        held |= tensors(tmp_path, file.name)
    expected = tensors(folders[name])
    assert {n: a.tobytes() for n, a in held.items()} == {n: a.tobytes() for n, a in expected.items()}
    again = cls.from_pretrained(tmp_path)
    assert same(state(again), state(model))
    assert again.config == model.config
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(
        (folders[name] / "config.json").read_text()
    )


TRANSFORMERS = """
import json, sys
from pathlib import Path
import transformers
transformers.logging.set_verbosity_error()
told = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, dtype="auto")
    told[folder.name] = [str(model.dtype), *(sorted(map(str, info[key])) for key in sorted(info))]
    model.save_pretrained(Path(sys.argv[2]) / folder.name)
print(json.dumps(told))
"""


def test_transformers_opens_what_we_save_and_we_open_what_it_saves(tmp_path):
    """Each in a form that differs from the plain one: sharded, tied, resized, cast, fresh, trained on."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    models = {
        "cast": LlamaForCausalLM.from_config(LlamaConfig(**LLAMA), dtype="bfloat16"),
        "fresh": BertForSequenceClassification(BertConfig(**SMALL_BERT, num_labels=4)),
        "resized": model_of("LlamaForCausalLM", tie_word_embeddings=True),
        "sharded": model_of("LlamaForQuestionAnswering"),
        "sharded-tied": model_of("BertForPreTraining"),
    }
    models["resized"].resize_token_embeddings(70)
    for name, model in models.items():
        model.save_pretrained(ours / name, max_shard_size="9KB" if "sharded" in name else "5GB")
    done = subprocess.run(
        [sys.executable, "-c", TRANSFORMERS, ours, theirs], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, (dtype, *info) in json.loads(done.stdout).items():
        assert dtype == str(models[name].dtype)
        assert info == [[]] * 4, name
        again = type(models[name]).from_pretrained(theirs / name)
        assert same(state(again), state(models[name])), name
        assert not again.load_report.names("new") + again.load_report.names("unused")


def test_saving_into_the_folder_that_is_mapped(folder):
    model = LlamaForCausalLM.from_pretrained(folder, read="map")
    before = state(model)
    model.save_pretrained(folder)
    assert same(state(model), before)
    model.save_pretrained(folder, max_shard_size="9KB")
    assert same(state(LlamaForCausalLM.from_pretrained(folder)), before)


def test_architectures_and_dtype_are_those_of_the_model_that_is_saved(folders, tmp_path):
    AutoModelForSequenceClassification.from_pretrained(folders["llama"], dtype="float16").save_pretrained(
        tmp_path
    )
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["architectures"] == ["LlamaForSequenceClassification"]
    assert values["dtype"] == "float16"


def test_metadata_of_the_checkpoint_is_kept(folder, tmp_path):
    rewrite(folder, tensors(folder), metadata={"made_by": "someone"})
    LlamaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata()["made_by"] == "someone"
        assert file.metadata()["format"] == "pt"


# Ties


def test_a_tied_head_is_one_parameter_and_stored_once(folders, tmp_path):
    model = LlamaForCausalLM.from_pretrained(folders["tied"])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.load_report.names("tied") == ["lm_head.weight"]
    assert "lm_head.weight" not in tensors(folders["tied"])
    assert model.num_parameters() == model_of("LlamaForCausalLM").num_parameters() - 61 * 24


@pytest.mark.parametrize("equal", [True, False])
def test_both_halves_of_a_tie_are_stored(folders, tmp_path, equal, caplog):
    folder = copied(folders["tied"], tmp_path / "copy")
    held = tensors(folder)
    other = held["model.embed_tokens.weight"].copy()
    if not equal:
        other[3, 5] += 1
    rewrite(folder, held | {"lm_head.weight": other})
    model = LlamaForCausalLM.from_pretrained(folder)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is equal
    assert np.array_equal(model.lm_head.weight.detach().numpy(), other)
    assert bool(caplog.records) is not equal
    model.save_pretrained(tmp_path / "again")
    assert ("lm_head.weight" in tensors(tmp_path / "again")) is not equal
    if not equal:
        assert "stores them with different values: kept apart" in caplog.text


def test_only_the_other_half_is_stored(folders, tmp_path):
    folder = copied(folders["tied"], tmp_path / "copy")
    held = tensors(folder)
    held["lm_head.weight"] = held.pop("model.embed_tokens.weight")
    rewrite(folder, held)
    model = LlamaForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model.save_pretrained(tmp_path / "again")
    assert "model.embed_tokens.weight" in tensors(tmp_path / "again"), "saved under the name that is tied to"


def test_two_parameters_from_one_stored_tensor_are_two(folder):
    held = tensors(folder)
    held.pop("lm_head.weight")
    rewrite(folder, held, metadata={"lm_head.weight": "model.embed_tokens.weight"})
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert model.model.embed_tokens.weight.abs().sum() > 0, "the configuration does not tie them"


# Loading into a model that exists


def test_a_sharded_checkpoint_into_a_model(folders, tmp_path):
    source, target = (
        model_of("LlamaForCausalLM", seed=2),
        LlamaForCausalLM.from_pretrained(folders["llama"], dtype="float16"),
    )
    source.save_pretrained(tmp_path, max_shard_size="10KB")
    objects = {name: id(p) for name, p in target.named_parameters()}
    keys = load_sharded_checkpoint(target, tmp_path)
    assert (keys.missing_keys, keys.unexpected_keys) == ([], [])
    assert same(state(target), {name: value.half() for name, value in state(source).items()}), (
        "it keeps its dtype"
    )
    assert objects == {name: id(p) for name, p in target.named_parameters()}, "optimisers know the parameters"


def test_strictly_every_parameter_has_a_tensor(folders, tmp_path):
    model = model_of("LlamaForSequenceClassification", num_labels=3, seed=2)
    before = state(model)
    with pytest.raises(MatchError) as caught:
        load_sharded_checkpoint(model, folders["llama"])
    assert "score.weight: missing" in str(caught.value) and "lm_head.weight: surplus" in str(caught.value)
    assert same(state(model), before), "nothing was read"
    keys = load_sharded_checkpoint(model, folders["llama"], strict=False)
    assert keys.missing_keys == ["score.weight"]
    assert torch.equal(model.score.weight, before["score.weight"])
    assert not torch.equal(model.model.norm.weight, before["model.norm.weight"])


def test_loosely_strangers_are_told(folder):
    rewrite(folder, tensors(folder) | {"stranger": np.zeros(3, np.float32)})
    keys = load_sharded_checkpoint(model_of("LlamaForCausalLM"), folder, strict=False)
    assert keys.unexpected_keys == ["stranger"]


def test_another_shape_is_an_error_however_loosely(folders):
    model = model_of("LlamaForCausalLM", vocab_size=62)
    with pytest.raises(MatchError, match=r"lm_head.weight: expected shape \[62, 24\], found \[61, 24\]"):
        load_sharded_checkpoint(model, folders["llama"], strict=False)


def test_a_tied_model_refuses_two_values_for_one(folders, tmp_path):
    folder = copied(folders["tied"], tmp_path / "copy")
    held = tensors(folder)
    rewrite(folder, held | {"lm_head.weight": held["model.embed_tokens.weight"] + 1})
    model = LlamaForCausalLM.from_pretrained(folders["tied"])
    before = state(model)
    with pytest.raises(
        MatchError, match="two parameters tied that the checkpoint stores with different values"
    ):
        load_sharded_checkpoint(model, folder)
    assert same(state(model), before)


def test_a_model_kept_apart_takes_both_values_or_is_tied(folders, tmp_path):
    folder = copied(folders["tied"], tmp_path / "copy")
    held = tensors(folder)
    rewrite(folder, held | {"lm_head.weight": held["model.embed_tokens.weight"] + 1})
    apart = LlamaForCausalLM.from_pretrained(folder)
    expected = state(apart)
    load_sharded_checkpoint(apart, folder)
    assert same(state(apart), expected)
    load_sharded_checkpoint(apart, folders["tied"])
    assert same(state(apart), state(LlamaForCausalLM.from_pretrained(folders["tied"])))


def test_pickles_are_not_read_yet(llama, folders):
    with pytest.raises(ArgumentError, match="pickle"):
        load_sharded_checkpoint(llama, folders["llama"], prefer_safe=False)
    with pytest.raises(ArgumentError, match="use_safetensors=False asks for a pickle"):
        AutoModel.from_pretrained(folders["llama"], use_safetensors=False)
    assert AutoModel.from_pretrained(folders["llama"], use_safetensors=True) is not None


# Ordinary modules


def test_the_classes_are_ordinary_modules(llama):
    assert isinstance(llama.lm_head, nn.Linear) and isinstance(llama.model.embed_tokens, nn.Embedding)
    assert llama.load_state_dict(llama.state_dict()).missing_keys == []
    half = copy.deepcopy(llama).half()
    assert half.dtype == torch.float16 and llama.dtype == torch.float32
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_step_of_training(llama):
    llama.train()
    optimiser = torch.optim.SGD(llama.parameters(), lr=0.1)
    first = llama(IDS, labels=IDS).loss
    first.backward()
    assert all(p.grad is not None for p in llama.parameters())
    optimiser.step()
    assert llama(IDS, labels=IDS).loss < first


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("name", ["tied", "bert"])
def test_copies(folders, again, name):
    model = {"tied": LlamaForCausalLM, "bert": BertForMaskedLM}[name].from_pretrained(folders[name])
    model.config.hidden_act = "gelu_new"
    other = again(model)
    assert same(state(other), state(model)) and other.config == model.config
    assert str(other.load_report) == str(model.load_report)
    assert len(list(other.parameters())) == len(list(model.parameters())), "ties stay"
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not same(state(other), state(model))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "tanh"])
def test_every_activation_can_be_pickled(activation):
    model = model_of("LlamaForCausalLM", hidden_act=activation, num_hidden_layers=1)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_direct_construction_draws_the_weights():
    torch.manual_seed(0)
    one, other = (LlamaForCausalLM(LlamaConfig(**LLAMA)) for _ in range(2))
    assert same(state(one), state(other)), "drawn from a seed, not from PyTorch's generator"
    assert one.training
    assert one.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (one.model.norm.weight == 1).all()
    assert not one.model.embed_tokens.weight[0].any(), "the padding token's row"
    assert BertModel(BertConfig(**SMALL_BERT), add_pooling_layer=False).pooler is None
    assert not same(state(one), state(LlamaForCausalLM.from_config(LlamaConfig(**LLAMA), seed=1)))


def test_a_fresh_model_in_a_dtype():
    config = LlamaConfig(**LLAMA, dtype="bfloat16")
    assert AutoModelForCausalLM.from_config(config).dtype == torch.bfloat16
    assert AutoModelForCausalLM.from_config(config, dtype="float16").dtype == torch.float16
    assert LlamaForCausalLM(config).dtype == torch.float32, "PyTorch's default, as of any module"
    with pytest.raises(ArgumentError, match="knows no argument 'sead'"):
        AutoModelForCausalLM.from_config(config, sead=1)
    assert config.dtype == "bfloat16"


# Vocabularies


@pytest.mark.parametrize("name", ["llama", "tied"])
@pytest.mark.parametrize("rows", [70, 50])
def test_resizing_the_vocabulary(folders, name, rows, tmp_path):
    model = LlamaForCausalLM.from_pretrained(folders[name])
    before = state(model)
    assert model.resize_token_embeddings(rows) is model.get_input_embeddings()
    kept = min(rows, 61)
    for weight in ("lm_head.weight", "model.embed_tokens.weight"):
        after = model.state_dict()[weight]
        assert after.shape == (rows, 24)
        assert torch.equal(after[:kept], before[weight][:kept])
        if rows > 61:
            assert torch.allclose(after[61:], before[weight].mean(0).expand(rows - 61, -1), atol=1e-6)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is (name == "tied")
    assert (
        model.config.vocab_size
        == model.lm_head.out_features
        == model.model.embed_tokens.num_embeddings
        == rows
    )
    assert model(IDS.clamp(max=rows - 1)).logits.shape[-1] == rows
    model.save_pretrained(tmp_path)
    assert same(state(LlamaForCausalLM.from_pretrained(tmp_path)), state(model))


def test_resizing_to_a_multiple(llama):
    assert llama.resize_token_embeddings(pad_to_multiple_of=16).num_embeddings == 64
    assert llama.resize_token_embeddings(60, pad_to_multiple_of=8, mean_resizing=False).num_embeddings == 64
    assert llama.resize_token_embeddings().num_embeddings == 64
    with pytest.raises(ArgumentError, match="at least one token"):
        llama.resize_token_embeddings(0)


def test_resizing_with_a_bias_on_the_output(folders):
    model = BertForMaskedLM.from_pretrained(folders["bert"])
    model.resize_token_embeddings(66)
    assert model(IDS).logits.shape[-1] == 66
    assert model.cls.predictions.bias is model.cls.predictions.decoder.bias
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


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
