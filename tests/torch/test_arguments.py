"""What each argument of loading does to a PyTorch model, and which are refused."""

import copy
import logging

import numpy as np
import pytest
import torch

from loadstone import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from loadstone.errors import (
    ArgumentError,
    CheckpointError,
    MatchError,
    PlacementError,
)
from tests.oracle.files import copied, edit_config, rewrite, tensors
from tests.torch.tiny import IDS, model_of, same, state

torch.set_num_threads(1)


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
        ("meta", "the device 'meta' holds no values"),
        ("balancd", "did you mean balanced"),
        ({"layers": "cpu", "layers.0.mlp": "disk", "": "cpu"}, "takes apart what is one"),
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


@pytest.mark.parametrize("name", ["quantization_config", "proxies", "tp_plan"])
def test_arguments_that_are_not_there_yet(folders, name):
    with pytest.raises(ArgumentError, match=f"{name}= is not there yet"):
        AutoModel.from_pretrained(folders["llama"], **{name: "something"})
    assert AutoModel.from_pretrained(folders["llama"], **{name: None}) is not None


@pytest.mark.parametrize(
    "name",
    ["low_cpu_mem_usage", "trust_remote_code", "weights_only", "offload_state_dict", "offload_buffers"],
)
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
