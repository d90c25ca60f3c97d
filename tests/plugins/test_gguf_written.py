"""GGUF files that loadstone writes: gguf-py opens them, transformers computes the same, and they come back bit for bit."""

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import gguf_files as files
import torch
from safetensors.numpy import load_file

import loadstone
from loadstone import AutoModelForCausalLM
from loadstone.checkpoint.open import open_checkpoint
from loadstone.cli.app import main
from loadstone.dtypes import to_numpy
from loadstone.errors import ArgumentError
from loadstone.source import resolve
from tests.oracle import load

IDS = torch.tensor([[3, 17, 41, 5, 9]])
TYPES = ("llama", "llama-bias", "llama-tied", "mistral", "qwen2", "qwen3", "gemma", "gpt2")


def case(name):
    """Return the folder of one of the oracle's causal language models."""
    model_type, _, rest = name.partition("-")
    return load.folder(f"{model_type}-causal-lm" + (f"-{rest}" if rest else ""))


@pytest.mark.parametrize("name", TYPES)
def test_each_type_comes_back_bit_for_bit(name, tmp_path):
    done = loadstone.convert(case(name), tmp_path, format="gguf-f32")
    assert done.files[0] == "model.gguf" and "no tokenizer" in str(done)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    expected = files.write(tmp_path / "x.gguf", case(name), architecture="llama" if name == "mistral" else "")
    made = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    assert theirs.keys() == made.keys()
    for own, tensor in made.items():  # as llama.cpp's converter arranges them
        assert np.array_equal(theirs[own].data, tensor.data), own
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    original = AutoModelForCausalLM.from_pretrained(case(name))
    state, same = model.state_dict(), expected if name == "gemma" else original.state_dict()
    for key, value in original.state_dict().items():
        held = same.get(key, value)
        assert np.array_equal(state[key].numpy(), np.asarray(held)), key
    assert type(model) is type(original)
    assert torch.allclose(model(IDS).logits, original(IDS).logits, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "variety", "dtype"),
    [("llama", "f16", "float16"), ("qwen3", "bf16", "bfloat16"), ("gpt2", "f16", "float16")],
)
def test_half_wide_files(name, variety, dtype, tmp_path):
    loadstone.convert(case(name), tmp_path / "there", format=f"gguf-{variety}")
    back = loadstone.convert(tmp_path / "there" / "model.gguf", tmp_path / "back")
    found = load_file(back.folder / "model.safetensors")
    for key, array in load_file(case(name) / "model.safetensors").items():
        wide = array.ndim < 2 or "wpe" in key
        assert np.array_equal(found[key], array if wide else array.astype(to_numpy(dtype))), key
        assert found[key].dtype == (np.float32 if wide else to_numpy(dtype)), key
    entry = open_checkpoint(resolve(tmp_path / "there"), weights_format="gguf", weights_file="model.gguf")
    assert all(info.offset % 64 == 0 for info in entry.tensors.values())


def gemma2(folder):
    """Save a small Gemma 2 with the heads that transformers takes it to have."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
    }
    AutoModelForCausalLM.from_config(
        loadstone.Gemma2Config(**sizes, **heads, sliding_window=3)
    ).save_pretrained(folder)
    return folder


# transformers reads no GGUF of Gemma 1 and, with this gguf-py, none of Mistral; of Qwen3 and GPT-2 only those with the sizes of
# the models that were published.
@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "gemma2"])
def test_transformers_computes_the_same(name, tmp_path):
    import transformers

    source = gemma2(tmp_path / "source") if name == "gemma2" else case(name)
    loadstone.convert(source, tmp_path, format="gguf-f16")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype="float32"
    )
    ours = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype="float32")
    assert torch.allclose(theirs(IDS).logits, ours(IDS).logits, atol=1e-6)
    state = ours.state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.5},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 16.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        | {"original_max_position_embeddings": 64},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_ropes_are_said(rope, tmp_path):
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    config = loadstone.LlamaConfig(**sizes, **heads, rope_scaling=rope)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path, format="gguf-f32")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "model.gguf")
    held = back.config.rope_scaling or back.config.rope_parameters
    assert {key: held[key] for key in rope} == rope
    assert torch.equal(back(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"num_hidden_layers": 1}, "model.layers.1"),
        ({"num_hidden_layers": 3}, "model.layers.2.self_attn.q_proj.weight: is not there"),
        ({"model_type": "olmo2"}, "GGUF files of olmo2 are not written"),
    ],
)
def test_what_a_file_cannot_say_is_an_error_first(fields, said, tmp_path):
    import json

    source = tmp_path / "source"
    loadstone.convert(case("llama"), source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "rope_parameters": None, **fields}))
    with pytest.raises(ArgumentError) as error:
        loadstone.convert(source, tmp_path / "there", format="gguf-f16")
    assert said in str(error.value) and not (tmp_path / "there").exists()


def test_a_base_model_and_one_with_another_head_are_none(tmp_path):
    model = loadstone.AutoModel.from_config(loadstone.AutoConfig.from_pretrained(case("llama")))
    with pytest.raises(ArgumentError, match=r"lm_head.weight: is not there"):
        model.save_pretrained(tmp_path, format="gguf-f16")


def test_other_files_of_the_folder_stay_and_texts_come_back(tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    texts = {"general.author": "somebody", "general.name": "Some Llama", "mine": "\u00e9"}
    with pytest.raises(SystemExit) as end:
        main(["convert", str(case("llama")), str(tmp_path), "--format", "gguf-bf16"])
    assert not end.value.code
    loadstone.convert(case("llama"), tmp_path, format="gguf-f16", metadata=texts)
    assert (tmp_path / "other.gguf").read_bytes() == b"GGUF"
    found = open_checkpoint(resolve(tmp_path), weights_format="gguf", weights_file="model.gguf").metadata
    assert texts.items() <= found.items()
    with pytest.raises(ArgumentError, match="one file"):
        loadstone.convert(case("llama"), tmp_path, format="gguf-f16", max_shard_size="10KB")
    with pytest.raises(ArgumentError, match="takes no dtype="):
        loadstone.convert(case("llama"), tmp_path / "twice", format="gguf-f16", dtype="bf16")
    for name, said in (("gguf", "gguf-f16"), ("gguf-q4", "gguf-bf16"), ("npz", "read, and not written")):
        with pytest.raises(ArgumentError, match=said):
            loadstone.convert(case("llama"), tmp_path / name, format=name)
