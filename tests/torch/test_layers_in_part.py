"""Models of which some layers alone are loaded: the others are absent, and say so."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import loadstone
from loadstone import AutoModelForCausalLM, BertForMaskedLM, LlamaForCausalLM
from loadstone.errors import ArgumentError, PlacementError
from loadstone_torch.backend import TorchBackend
from tests.oracle import load
from tests.torch.tiny import IDS, model_of, saved

FIRST = {"": "cpu", "model.layers.2": None}
NAME = "org/llama"


def part(folder: Path, **arguments):
    return LlamaForCausalLM.from_pretrained(folder, **{"layers": range(2), **arguments})


def first_layers(model: torch.nn.Module, number: int) -> torch.Tensor:
    """Return the states after some layers: what comes later is not needed for it."""
    states = []
    hook = model.model.layers[number - 1].register_forward_hook(lambda *given: states.append(given[2][0]))
    try:
        model(IDS)
    except PlacementError:
        assert number < len(model.model.layers)
    finally:
        hook.remove()
    return states[0]


# What is loaded


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"layers": [1, 0]},
        {"layers": None, "device_map": FIRST},
        {"layers": None, "device_map": FIRST | {"model.layers.2": "absent"}},
        {"device_map": "disk"},
        {"device_map": "auto", "max_memory": {"cpu": "1MB"}},
        {"read": "copy"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_the_layers_that_are_there_give_the_numbers_of_the_whole_model(folders, arguments) -> None:
    whole = LlamaForCausalLM.from_pretrained(folders["llama"], dtype=arguments.get("dtype", "auto"))
    model = part(folders["llama"], **arguments)
    assert torch.equal(first_layers(model, 2), first_layers(whole, 2))
    with pytest.raises(PlacementError, match="left out of the load cannot run") as caught:
        model(IDS)
    assert "model.layers.2." in str(caught.value)
    assert model.hf_device_map["model.layers.2"] is None
    assert [name for name, value in model.hf_device_map.items() if value is None] == ["model.layers.2"]


def test_the_report_tells_what_is_absent(folders) -> None:
    model, whole = part(folders["llama"]), LlamaForCausalLM.from_pretrained(folders["llama"])
    report = model.load_report
    absent = {name for name in whole.state_dict() if name.startswith("model.layers.2.")}
    assert set(report.names("absent")) == absent
    assert {name for name, value in model.state_dict().items() if value.is_meta} == absent
    size = sum(whole.state_dict()[name].nbytes for name in absent)
    assert report.nbytes == whole.load_report.nbytes - size == report.bytes_mapped
    assert set(report.names("ignored")) == absent and not report.names("unused")
    line = next(line for line in str(report).splitlines() if "absent  " in line)
    assert line.split() == ["absent", "9", "-", "-", "model.layers.2"]
    assert json.loads(json.dumps(report.to_dict()))["parameters"][min(absent)]["state"] == "absent"
    assert "absent: model.layers.2.mlp.up_proj.weight" in repr(model.model.layers[2].mlp.up_proj.weight)
    planned = loadstone.plan(folders["llama"], layers=range(2), backend="torch")
    assert planned.plan == report.plan and planned.device_map == model.hf_device_map


def test_none_of_the_layers_and_neither_head_nor_norm(folders) -> None:
    model = part(folders["llama"], layers=[], device_map={"": None, "model.embed_tokens": "cpu"})
    assert model.model.embed_tokens(IDS).isfinite().all()
    assert set(model.load_report.names("loaded")) == {"model.embed_tokens.weight"}
    for run in (model.lm_head, model.model.norm):
        with pytest.raises(PlacementError, match="left out"):
            run(torch.zeros(1, 1, 24))


def test_every_layer_named_is_the_whole_model(folders) -> None:
    model = part(folders["llama"], layers=range(3))
    assert model.generate(IDS, max_new_tokens=2).shape == (2, 8)
    assert not model.load_report.names("absent")


def test_an_encoders_layers(tmp_path) -> None:
    folder = saved(tmp_path / "bert", "BertForMaskedLM")
    whole, model = (
        BertForMaskedLM.from_pretrained(folder),
        BertForMaskedLM.from_pretrained(folder, layers=[0]),
    )
    seen = []
    for one in (whole, model):
        one.bert.encoder.layer[0].register_forward_hook(lambda *given: seen.append(given[2][0]))
        if one is model:
            with pytest.raises(PlacementError, match=r"bert\.encoder\.layer\.1"):
                one(IDS)
        else:
            one(IDS)
    assert torch.equal(*seen)


# What is refused


def test_what_needs_the_whole_model_says_so(folders, tmp_path) -> None:
    model = part(folders["llama"])
    for refused, words in (
        (lambda: model.generate(IDS), "cannot generate"),
        (lambda: model.save_pretrained(tmp_path / "saved"), "cannot be saved"),
        (lambda: loadstone.to_backend(model, "torch"), "another framework"),
        (lambda: model.resize_token_embeddings(99), "no other vocabulary"),
        (lambda: model.half(), "not all in memory"),
        (lambda: model.load_state_dict({}), "not all in memory"),
    ):
        with pytest.raises(ArgumentError, match=words):
            refused()
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("layers", "found"), [(range(2, 5), "3, 4"), ([-1], "-1"), ("01", "'01'"), ([True], "True"), (0.5, "0.5")]
)
def test_layers_that_are_not_there(folders, layers, found) -> None:
    with pytest.raises(ArgumentError, match="layers=") as caught:
        part(folders["llama"], layers=layers)
    assert (found in caught.value.found and "0 to" in str(caught.value)) or "layers.2" in str(caught.value)


def test_what_contradicts_or_takes_apart(folders) -> None:
    with pytest.raises(ArgumentError, match="leaves out what device_map= has a place for"):
        part(folders["llama"], device_map={"": "cpu", "model.layers.2.mlp": "cpu"})
    for device_map in ({"": "cpu", "model.layers.2.mlp": None}, {"": "cpu", "lm_head": None}):
        with pytest.raises(PlacementError, match="takes apart what is one"):
            LlamaForCausalLM.from_pretrained(folders["tied"], device_map=device_map)
    with pytest.raises(ArgumentError, match="one stack of blocks"):
        loadstone.plan(load.folder("resnet-image-classification"), layers=[0])


def test_a_backend_that_runs_no_such_model_refuses_it(folders, monkeypatch) -> None:
    alone = dataclasses.replace(TorchBackend.capabilities, spreads=False)
    monkeypatch.setattr(TorchBackend, "capabilities", alone)
    with pytest.raises(PlacementError, match="spread over several places"):
        part(folders["llama"])


def test_copies_and_pickles_stay_in_part(folders) -> None:
    model = part(folders["llama"])
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(first_layers(twin, 2), first_layers(model, 2))
        with pytest.raises(PlacementError, match="left out"):
            twin(IDS)


# Over HTTP


def test_only_the_bytes_of_the_layers_cross_the_wire(hub, tmp_path) -> None:
    folder = tmp_path / "llama"
    model = model_of("LlamaForCausalLM", hidden_size=64, num_attention_heads=4, intermediate_size=256)
    model.save_pretrained(folder, max_shard_size="150KB")
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 2
    hub.add_repo(NAME, folder=folder)
    arguments = {"layers": [1], "device_map": {"": "cpu", "lm_head": None}, "dtype": "float16"}
    found = AutoModelForCausalLM.from_pretrained(NAME, **arguments)

    wanted = {name for name in found.load_report.names("cast") if name.startswith("model.layers.1.")}
    assert len(wanted) == 9
    for shard in shards:
        with safe_open(folder / shard, "pt") as file:
            names = set(file.keys())
        loaded = names & set(found.load_report.names("cast"))
        header, *rest = hub.log("GET", shard, site="cdn")
        assert header.range.startswith("bytes=0-")
        assert sum(one.sent for one in rest) == sum(model.state_dict()[name].nbytes for name in loaded)
        assert all(one.range for one in rest)
    assert not list((hub.home / "hub").rglob("*.safetensors")), "no weights lie on disk"
    assert found.load_report.bytes_read == sum(
        model.state_dict()[n].nbytes for n in found.load_report.names("cast")
    )

    later = AutoModelForCausalLM.from_pretrained(NAME, wait=False, **arguments)
    later.wait()
    assert torch.equal(later.model.layers[1].mlp.up_proj.weight, found.model.layers[1].mlp.up_proj.weight)
    assert not list((hub.home / "hub").rglob("*.safetensors"))

    beside = AutoModelForCausalLM.from_pretrained(folder, **arguments)
    for name, value in beside.state_dict().items():
        assert value.is_meta == found.state_dict()[name].is_meta
        assert value.is_meta or torch.equal(value, found.state_dict()[name])

    before = hub.bytes_sent(shards[-1])
    AutoModelForCausalLM.from_pretrained(NAME)
    assert len(list((hub.home / "hub").rglob("snapshots/*/*.safetensors"))) == len(shards)
    assert hub.bytes_sent(shards[-1]) > before
    sent = [hub.bytes_sent(shard) for shard in shards]
    again = AutoModelForCausalLM.from_pretrained(NAME, **arguments)
    assert sent == [hub.bytes_sent(shard) for shard in shards], "what is in the cache is read there"
    assert again.load_report.plan == found.load_report.plan


def test_what_stays_on_disk_beside_absent_layers_is_fetched(hub, folders) -> None:
    hub.add_repo(NAME, folder=folders["llama"])
    found = AutoModelForCausalLM.from_pretrained(NAME, layers=[0, 1], device_map="disk")
    assert torch.equal(first_layers(found, 2), first_layers(part(folders["llama"]), 2))
    assert len(list((hub.home / "hub").rglob("snapshots/*/*.safetensors"))) == 1
