"""What one library wrote, in the backends of the others: numpy's archives and torch's distributed checkpoints."""

import warnings

import numpy as np
import pytest
import torch.distributed.checkpoint as dcp

import loadstone
from loadstone import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Format -> a folder in it, and the tensors."""
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    state = model.state_dict()
    folders = {name: tmp_path_factory.mktemp(name) for name in ("npz", "dcp")}
    # numpy writes a transposed array as it lies: the first axis runs fastest.
    np.savez(
        folders["npz"] / "model.npz", **{name: np.asfortranarray(v.numpy()) for name, v in state.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folders["dcp"], no_dist=True)
    for folder in folders.values():
        model.config.save_pretrained(folder)
    return folders, {name: value.numpy() for name, value in state.items()}


@pytest.mark.parametrize("backend", ["torch", "flax", "tensorflow"])
@pytest.mark.parametrize("written_as", ["npz", "dcp"])
def test_it_loads_in_every_backend(written, tmp_path, written_as, backend):
    from safetensors.numpy import load_file

    folders, tensors = written
    model = AutoModelForCausalLM.from_pretrained(folders[written_as], backend=backend)
    planned = loadstone.plan(folders[written_as], task="CausalLM", backend=backend)
    assert planned.names("loaded") == model.load_report.names("loaded")
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == set(tensors)
    assert all(np.array_equal(saved[name], array) for name, array in tensors.items())


@pytest.mark.parametrize("written_as", ["npz", "dcp"])
def test_a_part_of_it_loads(written, written_as):
    folders, tensors = written
    model = AutoModelForCausalLM.from_pretrained(folders[written_as], backend="torch", num_hidden_layers=1)
    assert len(model.load_report.names("ignored")) == 9 or len(model.load_report.names("unused")) == 9
    total = sum(array.nbytes for name, array in tensors.items() if ".layers.1." not in name)
    assert model.load_report.bytes_read + model.load_report.bytes_mapped == total
