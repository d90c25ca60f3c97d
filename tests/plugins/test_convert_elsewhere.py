"""Checkpoints converted from where they lie, far away or packed in a GGUF file: every tensor, every file, nothing besides."""

import json
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import gguf_files as files
from far import served
from gguf_files import Kind
from safetensors.numpy import load_file

import loadstone
from loadstone.cli.app import main
from loadstone.dtypes import to_numpy
from loadstone.errors import ArgumentError, ChangedFileError
from tests.oracle import load


def held(folder):
    """Return the tensors of a folder of safetensors."""
    return {name: a for path in folder.glob("*.safetensors") for name, a in load_file(path).items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a sharded checkpoint and what lies beside one."""
    folder = tmp_path / "source"
    loadstone.convert(load.folder("llama-causal-lm"), folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    (folder / "tokenizer.json").write_text('{"a": "\\u00e9"}')
    return folder


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_from_a_store_nothing_is_fetched(checkpoint, tmp_path, dtype):
    store = fsspec.filesystem("memory")
    store.put(str(checkpoint), f"/convert-{dtype}/", recursive=True)
    done = loadstone.convert(f"memory://convert-{dtype}/source", tmp_path / "there", dtype=dtype)
    expected = held(checkpoint)
    if dtype:
        expected = {name: a.astype(to_numpy("bfloat16")) for name, a in expected.items()}
    assert_same(held(done.folder), expected)
    assert (done.folder / "tokenizer.json").read_bytes() == (checkpoint / "tokenizer.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "there"]


def test_a_shard_replaced_meanwhile_leaves_nothing(checkpoint, tmp_path):
    with served(checkpoint) as server:

        def replaced(name):
            if name == "tokenizer.json":  # which is written last
                shard = next(checkpoint.glob("*00002-of*.safetensors"))
                shard.write_bytes(shard.read_bytes()[:-4] + b"\0\0\1\0")

        server.before = replaced
        with pytest.raises(ChangedFileError):
            loadstone.convert(server.url, tmp_path / "there", format="bin")
    assert not [path for path in (tmp_path / "there").rglob("*") if path.suffix == ".bin"]


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_packed_numbers_are_unpacked(tmp_path):
    there = tmp_path / "downloads"
    there.mkdir()
    (there / "unrelated.txt").write_text("not of the model")
    expected = files.write(there / "x.gguf", load.folder("llama-causal-lm"), Kind.Q8_0)
    done = loadstone.convert(there / "x.gguf", tmp_path / "alone")
    assert_same(held(done.folder), expected)
    assert sorted(path.name for path in done.folder.iterdir()) == ["config.json", "model.safetensors"]
    assert config_of(done.folder)["dtype"] == "float32"
    with pytest.raises(SystemExit) as end:
        main(["convert", str(there), str(tmp_path / "c"), "--gguf-file", "x.gguf", "--dtype", "float16"])
    assert not end.value.code and "float16" in (tmp_path / "c" / "config.json").read_text()
    assert_same(held(tmp_path / "c"), {name: a.astype(np.float16) for name, a in expected.items()})
    assert (tmp_path / "c" / "unrelated.txt").exists()
    with pytest.raises(ArgumentError, match="gguf_file"):
        loadstone.convert(there / "x.gguf", tmp_path / "d", gguf_file="x.gguf")


def test_half_wide_numbers_in_another_order_keep_their_bits(tmp_path):
    expected = files.write(tmp_path / "x.gguf", load.folder("llama-causal-lm"), Kind.F16)
    done = loadstone.convert(tmp_path / "x.gguf", tmp_path / "there")
    found, config = held(done.folder), config_of(done.folder)
    assert config["dtype"] == "float16" and config["model_type"] == "llama"
    assert {a.dtype for name, a in found.items() if name.endswith("proj.weight")} == {np.dtype(np.float16)}
    assert_same({name: a.astype(np.float32) for name, a in found.items()}, expected)
