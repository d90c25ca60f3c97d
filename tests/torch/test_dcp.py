"""Distributed checkpoints as torch writes them, loaded; and descriptions that ask for more than tensors."""

import dataclasses
import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

import loadstone
from loadstone import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError, MatchError
from loadstone.source import resolve

SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def save(state, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folder, no_dist=True)


@pytest.fixture
def tensors():
    return {"a.weight": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "t": torch.randn(4, 3).t()}


@pytest.fixture
def folder(tmp_path, tensors):
    save(tensors, tmp_path / "saved")
    return tmp_path / "saved"


def test_tensors_lie_where_the_index_says(folder, tensors):
    save({**tensors, "step": 7, "scalar": torch.tensor(2.5), "none": torch.zeros(0, 2)}, folder)
    index = open_checkpoint(resolve(folder))
    assert set(index.tensors) == {*tensors, "scalar", "none"}
    assert "less safe" in index.notes[0]
    for name, tensor in tensors.items():
        info = index.tensors[name]
        assert (info.dtype, info.shape) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        data = (folder / info.file).read_bytes()
        numbers = torch.frombuffer(bytearray(data[info.offset :][: info.nbytes]), dtype=tensor.dtype)
        found = numbers.as_strided(tensor.shape, info.strides or torch.empty(tensor.shape).stride())
        assert torch.equal(found, tensor)


def test_a_model_loads_what_its_training_saved(tmp_path):
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    state = model.state_dict()
    save({"model": state, "optim": optimizer.state_dict(), "step": 1}, tmp_path)
    model.config.save_pretrained(tmp_path)
    with pytest.raises(MatchError, match="key_mapping="):
        AutoModelForCausalLM.from_pretrained(tmp_path, backend="torch")
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path, backend="torch", key_mapping={r"^model\.(?=model|lm_head)": ""}
    )
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert any(name.startswith("optim.") for name in loaded.load_report.names("unused"))
    planned = loadstone.plan(
        tmp_path, task="CausalLM", backend="torch", key_mapping={r"^model\.(?=model|lm_head)": ""}
    )
    assert planned.names("loaded") == loaded.load_report.names("loaded")


TWO = """
import sys
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
state = torch.load(f"{folder}/whole.pt")
dcp.save({name: distribute_tensor(value, mesh, [Shard(0)]) for name, value in state.items()}, checkpoint_id=f"{folder}/two")
dist.destroy_process_group()
"""


def test_what_two_processes_wrote_in_rows_is_put_together(tmp_path):
    """Sizes are odd, so that pieces differ; one has no row, and the head is stored twice."""
    sizes = SIZES | {"vocab_size": 49, "intermediate_size": 23, "tie_word_embeddings": True}
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    torch.save({**state, "one": torch.ones(1, 3)}, tmp_path / "whole.pt")
    running = [subprocess.Popen([sys.executable, "-c", TWO, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [one.wait(120) for one in running] == [0, 0]
    model.config.save_pretrained(tmp_path / "two")
    index = open_checkpoint(resolve(tmp_path / "two"))
    assert len(index.tensors["lm_head.weight"].pieces) == 2 and not index.tensors["one"].pieces
    for arguments in ({}, {"dtype": "float16"}, {"device_map": "disk"}):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "two", backend="torch", **arguments)
        tied = loaded.load_report.names("tied")
        assert tied == ["lm_head.weight"]
        if "device_map" in arguments:
            loaded.save_pretrained(tmp_path / "saved")
            loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", backend="torch")
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, state[name].to(value.dtype)), name
    assert "of 2 pieces" in str(loadstone.plan(tmp_path / "two", task="CausalLM", backend="torch"))


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def described(folder, change):
    """Change what a description says."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))


def placed(metadata, **changes):
    """Change where the first tensor lies."""
    key = next(key for key in metadata.storage_data if key.fqn == "a.weight")
    metadata.storage_data[key] = dataclasses.replace(metadata.storage_data[key], **changes)


def sized(metadata, *, chunks=None, size=None):
    tensor = metadata.state_dict_metadata["a.weight"]
    tensor.size = size or tensor.size
    tensor.chunks = chunks or tensor.chunks


def halves(first, second):
    return [
        ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in (first, second)
    ]


HOSTILE = {
    "a call": (lambda m: setattr(m, "planner_data", Runs()), "names code that weights have no use for"),
    "a key that calls": (lambda m: m.storage_data.update({Runs(): 1}), "names code"),
    "a class of torch's": (lambda m: setattr(m, "version", torch.nn.Linear), "names code"),
    "another file": (lambda m: placed(m, relative_path="../x.distcp"), "a file whose name is refused"),
    "another kind of file": (lambda m: placed(m, relative_path="config.json"), "another kind of file"),
    "no number": (lambda m: placed(m, offset="0"), "places a tensor nowhere"),
    "before the file": (lambda m: placed(m, offset=-1), "places a tensor nowhere"),
    "beyond the file": (lambda m: placed(m, length=10**9), "is shorter than the tensors that lie in it"),
    "elsewhere": (lambda m: placed(m, offset=1), "a tensor that torch.save did not write"),
    "transformed": (lambda m: placed(m, transform_descriptors=["zstd"]), "was compressed"),
    "another size": (
        lambda m: sized(m, size=torch.Size([2, 4]), chunks=halves(((0, 0), (2, 4)), ((0, 0), (2, 4)))[:1]),
        "holds another tensor than its description says",
    ),
    "a part": (
        lambda m: sized(m, chunks=halves(((0, 0), (2, 4)), ((0, 0), (2, 4)))[:1]),
        "a part is nowhere",
    ),
    "rows twice": (
        lambda m: sized(m, chunks=halves(((0, 0), (2, 4)), ((1, 0), (2, 4)))),
        "pieces that are not all",
    ),
    "columns": (
        lambda m: sized(m, chunks=halves(((0, 0), (3, 2)), ((0, 2), (3, 2)))),
        "pieces that are not all",
    ),
    "an absent piece": (
        lambda m: sized(m, chunks=halves(((0, 0), (2, 4)), ((2, 0), (1, 4)))),
        "does not say where a tensor lies",
    ),
    "no pieces": (lambda m: setattr(m.state_dict_metadata["a.weight"], "chunks", []), "in no pieces"),
    "nothing": (lambda m: m.state_dict_metadata.clear(), "describes no tensor"),
    "no places": (lambda m: setattr(m, "storage_data", None), "does not say where its tensors lie"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_description_that_asks_for_more_is_refused(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    change, message = HOSTILE[name]
    described(folder, change)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(resolve(folder))
    assert message in str(caught.value)
    assert not (folder / "ran").exists()


def test_what_is_written_of_a_tensor_is_read_as_any_pickle(folder, monkeypatch):
    monkeypatch.chdir(folder)
    info = pickle.loads((folder / ".metadata").read_bytes()).storage_data
    place = next(value for key, value in info.items() if key.fqn == "a.weight")
    torch.save(Runs(), "other")
    data = (folder / "other").read_bytes()
    described(folder, lambda m: placed(m, offset=0, length=len(data), relative_path="other.distcp"))
    (folder / "other").rename(folder / "other.distcp")
    with pytest.raises(CheckpointError, match="names code"):
        open_checkpoint(resolve(folder))
    assert place.length and not (folder / "ran").exists()


def test_another_pickle_under_its_name(folder):
    (folder / ".metadata").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="is no description of a distributed checkpoint"):
        open_checkpoint(resolve(folder))
