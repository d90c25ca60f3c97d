"""Pushing models to a Hub on loopback with the real client, and loading them back by their ids."""

import json

import loopback_upload
import pytest
import torch
from huggingface_hub import constants
from loopback_http import Refusal
from loopback_store import GOOD_TOKEN

import loadstone
from loadstone import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from loadstone.errors import ArgumentError, SourceError

NAME = "org/pushed"


def tiny(**fields):
    sizes = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    config = LlamaConfig(**{**sizes, **heads, **fields})
    return LlamaForCausalLM.from_config(config, seed=0).eval()


def assert_equal(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_pushed_model_loads_back_by_its_id_bit_for_bit(hub):
    model = tiny()
    model.generation_config.eos_token_id = 7
    commit = model.push_to_hub(NAME, token=GOOD_TOKEN, private=True)
    assert commit.oid == hub.repositories[NAME].branches["main"]
    assert hub.repositories[NAME].private
    assert hub.repositories[NAME].messages[commit.oid] == "Upload LlamaForCausalLM"
    loaded = AutoModelForCausalLM.from_pretrained(NAME, token=GOOD_TOKEN, backend="torch")
    assert loaded.load_report.commit == commit.oid
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.generation_config.eos_token_id == 7
    assert_equal(loaded, model)


def test_the_stored_token_is_used_and_the_repository_may_exist(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    hub.add_repo(NAME, {"README.md": b"Mine.", "tokenizer.json": b"{}"})
    commit = tiny().push_to_hub(NAME, commit_message="Train on", revision="trained")
    files = hub.repositories[NAME].commits[commit.oid]
    expected = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert set(files) == expected
    assert hub.repositories[NAME].messages[commit.oid] == "Train on"
    assert "model.safetensors" not in hub.repositories[NAME].commits[hub.repositories[NAME].branches["main"]]
    assert_equal(LlamaForCausalLM.from_pretrained(NAME, revision="trained"), tiny())


def test_earlier_weights_under_other_names_are_replaced(hub):
    whole, sharded = tiny(), tiny(initializer_range=0.5)
    whole.push_to_hub(NAME, token=GOOD_TOKEN)
    whole.push_to_hub(NAME, token=GOOD_TOKEN, variant="fp16")
    commit = sharded.push_to_hub(NAME, token=GOOD_TOKEN, max_shard_size="6KB")
    names = set(hub.repositories[NAME].commits[commit.oid])
    assert "model.safetensors" not in names
    assert "model.safetensors.index.json" in names
    assert "model.fp16.safetensors" in names
    assert_equal(LlamaForCausalLM.from_pretrained(NAME), sharded)
    assert_equal(LlamaForCausalLM.from_pretrained(NAME, variant="fp16"), whole)
    commit = whole.push_to_hub(NAME, token=GOOD_TOKEN)
    names = set(hub.repositories[NAME].commits[commit.oid])
    assert not [name for name in names if "-of-" in name or name.endswith("index.json")]
    assert_equal(LlamaForCausalLM.from_pretrained(NAME), whole)


def test_a_pull_request_leaves_main_alone(hub):
    hub.add_repo(NAME, {"README.md": b"Mine."})
    commit = tiny().push_to_hub(NAME, token=GOOD_TOKEN, create_pr=True)
    assert commit.pr_url == f"{hub.endpoint}/{NAME}/discussions/1"
    with pytest.raises(loadstone.LoadstoneError):
        LlamaForCausalLM.from_pretrained(NAME)
    assert_equal(LlamaForCausalLM.from_pretrained(NAME, revision="refs/pr/1"), tiny())


def test_a_name_alone_is_in_ones_own_namespace(hub):
    tiny().push_to_hub("mine", token=GOOD_TOKEN)
    config = hub.repositories["loopback-user/mine"]
    files = config.commits[config.branches["main"]]
    text = files["config.json"].content.read(0, files["config.json"].content.size)
    assert json.loads(text)["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("token", [None, True, False])
def test_without_a_token_nothing_is_written(hub, token):
    with pytest.raises(SourceError, match="needs an access token") as error:
        tiny().push_to_hub(NAME, token=token)
    assert "hf auth login" in error.value.hint
    assert not hub.requests


@pytest.mark.parametrize("exists", [False, True])
def test_a_token_that_may_not_write_is_told_so(hub, exists):
    if exists:
        hub.add_repo(NAME, {"README.md": b"Mine."})
        before = hub.repositories[NAME].branches["main"]
    with pytest.raises(SourceError, match="may not be written to") as error:
        tiny().push_to_hub(NAME, token="hf_stranger")
    assert "401" in error.value.found
    assert "token=" in error.value.hint
    assert not exists or hub.repositories[NAME].branches["main"] == before
    assert exists or NAME not in hub.repositories


def test_an_account_that_may_only_read_is_told_so(hub, monkeypatch):
    def refuse(exchange):
        raise Refusal(403, "You don't have the rights to write here")

    hub.add_repo(NAME, {"README.md": b"Mine."})
    monkeypatch.setattr(loopback_upload, "_writer", refuse)
    with pytest.raises(SourceError, match="may not be written to") as error:
        tiny().push_to_hub(NAME, token=GOOD_TOKEN)
    assert error.value.found == "HTTP 403: You don't have the rights to write here"


def test_offline_nothing_is_asked_of_the_hub(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE"):
        tiny().push_to_hub(NAME, token=GOOD_TOKEN)
    assert not hub.requests


def test_a_hub_that_is_away_is_named(hub):
    hub.stop()
    with pytest.raises(SourceError, match="could not be reached") as error:
        tiny().push_to_hub(NAME, token=GOOD_TOKEN)
    assert hub.endpoint in str(error.value)


def test_arguments_that_cannot_be_meant(hub):
    with pytest.raises(ArgumentError, match="against `main`"):
        tiny().push_to_hub(NAME, token=GOOD_TOKEN, create_pr=True, revision="next")
    with pytest.raises(ArgumentError, match="no name of a repository"):
        tiny().push_to_hub("org/a--b", token=GOOD_TOKEN)
    assert not hub.requests


def test_saving_pushes_too(hub, tmp_path):
    """As transformers does: into the repository that is named, or one with the folder's name."""
    model = tiny()
    values = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=values, push_to_hub=True, repo_id=NAME, token=GOOD_TOKEN)
    for where in (tmp_path, NAME):
        loaded = LlamaForCausalLM.from_pretrained(where, token=GOOD_TOKEN)
        assert torch.equal(loaded.model.norm.weight, model.model.norm.weight + 1)
    model.save_pretrained(tmp_path / "mine", push_to_hub=True, token=GOOD_TOKEN, commit_message="Again")
    assert any(name.split("/")[-1] == "mine" for name in hub.repositories)
    with pytest.raises(SourceError, match="access token"):
        model.save_pretrained(tmp_path / "none", push_to_hub=True, token=False)
    assert not (tmp_path / "none").exists(), "what cannot be pushed is told before anything is written"
