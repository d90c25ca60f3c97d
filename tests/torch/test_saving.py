"""What users of transformers expect of saving, of tied parameters and of loading into a model that exists."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from loadstone import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)
from loadstone.errors import (
    CheckpointError,
    MatchError,
)
from loadstone.modeling_utils import load_sharded_checkpoint
from tests.oracle.files import copied, rewrite, tensors
from tests.torch.tiny import BERT, LLAMA, model_of, same, state

torch.set_num_threads(1)


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
        "fresh": BertForSequenceClassification(BertConfig(**BERT | {"num_labels": 4})),
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


def test_pickles_that_are_asked_for_and_not_there(llama, folders):
    with pytest.raises(CheckpointError, match="use_safetensors= leaves out"):
        load_sharded_checkpoint(llama, folders["llama"], prefer_safe=False)
    with pytest.raises(CheckpointError, match="use_safetensors= leaves out"):
        AutoModel.from_pretrained(folders["llama"], use_safetensors=False)
    assert AutoModel.from_pretrained(folders["llama"], use_safetensors=True) is not None
