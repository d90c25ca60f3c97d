"""Loads from the Hub that need some of the shards: only those are fetched, and the cache then says what it lacks."""

from __future__ import annotations

import json

import pytest
import torch

import loadstone
from loadstone import AutoModel, AutoModelForCausalLM
from loadstone.cli.inspect import inspect
from loadstone.errors import CheckpointError, SourceError
from tests.torch.tiny import model_of, same, state

torch.set_num_threads(1)

NAME = "org/llama"
HEAD = "model-00004-of-00004.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in shards, the last of which holds the head and nothing else."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("sharded")
    model = model_of("LlamaForCausalLM")
    config = model.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    model.generation_config.save_pretrained(folder)
    names = sorted(model.state_dict(), key=lambda name: name == "lm_head.weight")
    third = len(names) // 3 + 1
    parts = [names[:third], names[third : 2 * third], names[2 * third : -1], names[-1:]]
    weight_map = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05}-of-00004.safetensors"
        save_file({name: model.state_dict()[name] for name in part}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert weight_map["lm_head.weight"] == HEAD and parts[-1] == ["lm_head.weight"]
    return folder


def fetched(hub):
    """Return the shards that lie in the cache."""
    return {path.name for path in (hub.home / "hub").rglob("snapshots/*/*.safetensors")}


def downloads(hub):
    """Return for each shard, in order, how often it was asked for whole; headers are asked for as ranges."""
    return [
        len([r for r in hub.log("GET", f"model-{number:05}", site="cdn") if r.range is None])
        for number in range(1, 5)
    ]


def refused(error, *facts, load=AutoModelForCausalLM.from_pretrained, **arguments):
    with pytest.raises(error) as caught:
        load(NAME, **arguments)
    message = str(caught.value)
    for fact in ("next: ", *facts):
        assert fact in message, message
    return message


def test_the_base_model_and_then_the_whole_one(hub, folder, monkeypatch):
    hub.add_repo(NAME, folder=folder)
    whole = AutoModelForCausalLM.from_pretrained(folder)
    base = {
        name.removeprefix("model."): value for name, value in state(whole).items() if "lm_head" not in name
    }
    shards = {path.name for path in folder.glob("*.safetensors")}

    online = AutoModel.from_pretrained(NAME)
    assert same(state(online), base)
    assert fetched(hub) == shards - {HEAD}
    assert downloads(hub) == [1, 1, 1, 0]

    before = len(hub.requests)
    again = AutoModel.from_pretrained(NAME, local_files_only=True)
    assert same(state(again), base)
    assert again.load_report.plan == online.load_report.plan
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(state(AutoModel.from_pretrained(NAME)), base)

    refused(SourceError, HEAD, "holds lm_head.weight", "hf download org/llama", "network access")
    refused(SourceError, HEAD, load=loadstone.plan)
    assert len(hub.requests) == before, "nothing was asked for"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert same(state(AutoModelForCausalLM.from_pretrained(NAME)), state(whole))
    assert fetched(hub) == shards
    assert downloads(hub) == [1, 1, 1, 1]
    before = len(hub.requests)
    assert same(state(AutoModelForCausalLM.from_pretrained(NAME, local_files_only=True)), state(whole))
    assert len(hub.requests) == before


def test_a_tie_that_is_stored_twice_needs_both_its_files(hub, folder):
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    hub.add_repo(NAME, {"config.json": json.dumps(config).encode()}, folder=folder)
    AutoModel.from_pretrained(NAME)
    refused(SourceError, HEAD, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(NAME)
    assert same({"": model.lm_head.weight}, {"": AutoModelForCausalLM.from_pretrained(folder).lm_head.weight})
    assert downloads(hub) == [1, 1, 1, 1]


def test_a_dtype_that_an_absent_file_may_decide_is_not_guessed(hub, folder):
    """transformers goes by the first float tensor of the first file; config.json names no dtype here."""
    config = {
        key: value
        for key, value in json.loads((folder / "config.json").read_text()).items()
        if key != "dtype"
    }
    files = {path.name: path for path in folder.iterdir()}
    index = json.loads((folder / INDEX).read_text())
    first = "model-00000-of-00004.safetensors"
    index["weight_map"]["lm_head.weight"] = first
    files |= {
        "config.json": json.dumps(config).encode(),
        INDEX: json.dumps(index).encode(),
        first: files.pop(HEAD),
    }
    hub.add_repo(NAME, files)
    AutoModel.from_pretrained(NAME)
    refused(SourceError, first, "dtype=", load=AutoModel.from_pretrained, local_files_only=True)
    model = AutoModel.from_pretrained(NAME, dtype="bfloat16", local_files_only=True)
    assert model.dtype == torch.bfloat16


def test_more_layers_than_the_files_that_are_here_have_tensors(hub, folder):
    """What bounds the layers of a configuration is all that is stored, here or not."""
    hub.add_repo(NAME, folder=folder)
    for name in ("config.json", INDEX, HEAD):
        loadstone.source.resolve(NAME).fetch([name])
    refused(SourceError, "lacks 3 files", "model-00001-of-00004.safetensors", local_files_only=True)


def test_a_folder_without_a_shard_stays_an_error(hub, folder, tmp_path):
    hub.add_repo(NAME, folder=folder)
    AutoModel.from_pretrained(NAME)
    [snapshot] = (hub.home / "hub").rglob("snapshots/*")
    for place in (snapshot, tmp_path):
        if place is tmp_path:
            for path in folder.iterdir():
                if path.name != HEAD:
                    (tmp_path / path.name).write_bytes(path.read_bytes())
        with pytest.raises(CheckpointError, match=f"{HEAD} is not there; the index places 1 tensor in it"):
            AutoModel.from_pretrained(place)


def test_an_inspection_names_the_files_that_were_not_fetched(hub, folder):
    hub.add_repo(NAME, folder=folder)
    AutoModel.from_pretrained(NAME)
    found = inspect(NAME, local_files_only=True)
    assert [file.state for file in found.files] == ["ok", "ok", "ok", "absent"]
    assert [problem.what for problem in found.problems] == [f"{HEAD} is not in the download cache"]
    assert len(found.tensors) == len(json.loads((folder / INDEX).read_text())["weight_map"]) - 1
    assert not inspect(NAME).problems


def test_pickled_shards(hub, tmp_path):
    model = model_of("LlamaForCausalLM")
    model.config.save_pretrained(tmp_path)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    parts = [
        {n: v for n, v in weights.items() if n != "lm_head.weight"},
        {"lm_head.weight": weights["lm_head.weight"]},
    ]
    places = {}
    for number, part in enumerate(parts, start=1):
        torch.save(part, tmp_path / f"pytorch_model-{number:05}-of-00002.bin")
        places |= dict.fromkeys(part, f"pytorch_model-{number:05}-of-00002.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    hub.add_repo(NAME, folder=tmp_path)
    online = AutoModel.from_pretrained(NAME)
    assert same(state(online), state(AutoModel.from_pretrained(NAME, local_files_only=True)))
    refused(SourceError, "pytorch_model-00002-of-00002.bin", local_files_only=True)
