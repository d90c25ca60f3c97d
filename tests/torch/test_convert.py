"""Pickles and safetensors that were written without torch, opened by torch and by the safetensors library."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import loadstone
from loadstone.checkpoint.formats.target import target_named
from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.dtypes import DTYPES, nbytes
from loadstone.errors import ArgumentError
from loadstone.read.tensor import HostTensor
from loadstone.save.write import save_checkpoint
from tests.oracle import load

DTYPES_OF_TORCH = [name for name, dtype in DTYPES.items() if dtype.bits % 8 == 0]


def drawn(name: str, dtype: str, shape: tuple[int, ...]) -> StoredTensor:
    """Return a tensor of random bytes."""
    high = 2 if dtype == "bool" else 256
    data = np.random.default_rng(len(name)).integers(0, high, nbytes(dtype, shape), dtype=np.uint8)
    host = HostTensor(name=name, dtype=dtype, shape=shape, data=data)
    return StoredTensor(name=name, dtype=dtype, shape=shape, read=lambda: host)


def every_dtype() -> list[StoredTensor]:
    shapes = {"": (3, 5), ".scalar": (), ".empty": (0, 2)}
    return [drawn(dtype + name, dtype, shape) for dtype in DTYPES_OF_TORCH for name, shape in shapes.items()]


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_opens_a_pickle_of_every_dtype(mmap: bool, tmp_path: Path) -> None:
    tensors = every_dtype()
    save_checkpoint(
        tmp_path, tensors, config_json="{}", target=target_named("bin"), aliases={"again": "float32"}
    )
    found = torch.load(tmp_path / "pytorch_model.bin", weights_only=True, mmap=mmap)
    assert found.keys() == {*(tensor.name for tensor in tensors), "again"}
    assert found["again"].data_ptr() == found["float32"].data_ptr()
    for tensor in tensors:
        one = found[tensor.name]
        assert (str(one.dtype), tuple(one.shape)) == (f"torch.{tensor.dtype}", tensor.shape)
        data = one.reshape(-1).view(torch.uint8).numpy() if one.numel() else np.empty(0, np.uint8)
        assert data.tobytes() == bytes(tensor.data())
        assert not mmap or not one.numel() or one.data_ptr() % 64 == 0


def test_the_layout_of_the_library_is_that_of_the_library(tmp_path: Path) -> None:
    tensors = every_dtype()
    save_checkpoint(
        tmp_path,
        tensors,
        config_json="{}",
        target=target_named("safetensors", "torch"),
        metadata={"format": "pt"},
    )
    same = {
        t.name: torch.from_numpy(np.frombuffer(t.data(), np.uint8).copy())
        .view(getattr(torch, t.dtype))
        .reshape(t.shape)
        if t.nbytes
        else torch.empty(t.shape, dtype=getattr(torch, t.dtype))
        for t in tensors
    }
    safetensors.torch.save_file(same, tmp_path / "expected", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()
    with pytest.raises(ArgumentError, match="layout"):
        target_named("safetensors", "rows")


def test_what_is_converted_is_the_same_model(tmp_path: Path) -> None:
    source = load.folder("gpt2-causal-lm")
    for format in ("bin", "h5", "msgpack"):
        loadstone.convert(source, tmp_path / format, format=format, dtype="float32", max_shard_size="20KB")
        one = loadstone.AutoModelForCausalLM.from_pretrained(tmp_path / format)
        other = loadstone.AutoModelForCausalLM.from_pretrained(source)
        for name, tensor in other.state_dict().items():
            assert torch.equal(one.state_dict()[name], tensor), name
