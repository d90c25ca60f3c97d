"""The demo checkpoint's files, and the text it was trained on. Its quality is tested in `tests/torch`."""

import itertools
import json
import math
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

import loadstone

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

import corpus

WORDS = corpus.Grammar.read().words
PEOPLE, BOATS = (
    re.compile(rf"\b(?:{'|'.join(name for name, *_ in WORDS[kind])})\b") for kind in ("hero", "boat")
)
CHECKPOINT = Path(loadstone.__file__).parent / "demo_checkpoint"
TRAINING_SHA256 = "52084f59a279953eff6223abae98e93f5f35cbef3b548b26fe4c70fd7ada9318"
HELD_OUT_SHA256 = "04e19112f971cf8d39c3b78746419aad28388500bd70d6788cddc40e71238d58"


@pytest.fixture(scope="module")
def training_text() -> bytes:
    return corpus.training_text()


@pytest.fixture(scope="module")
def held_out_text() -> bytes:
    return corpus.held_out_text()


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((CHECKPOINT / "config.json").read_text())


@pytest.fixture(scope="module")
def tensors() -> dict[str, dict[str, Any]]:
    """The safetensors header, read by hand: name -> dtype, shape, data_offsets."""
    data = (CHECKPOINT / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__")["format"] == "pt"
    return header


def test_the_checkpoint_is_three_files_of_at_most_a_megabyte():
    files = sorted(CHECKPOINT.iterdir())

    assert [file.name for file in files] == ["config.json", "generation_config.json", "model.safetensors"]
    assert sum(file.stat().st_size for file in files) <= 1_000_000


def test_it_has_between_100_and_300_thousand_parameters(tensors):
    assert 100_000 <= sum(math.prod(tensor["shape"]) for tensor in tensors.values()) <= 300_000


def test_its_tied_head_is_stored_once(config, tensors):
    assert config["tie_word_embeddings"] is True
    assert "model.embed_tokens.weight" in tensors
    assert "lm_head.weight" not in tensors


def test_its_words_are_the_bytes_and_byte_0_ends_a_story(config):
    generation = json.loads((CHECKPOINT / "generation_config.json").read_text())

    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == 256
    for settings in (config, generation):
        assert settings["bos_token_id"] == settings["eos_token_id"] == corpus.END_OF_STORY[0]


def test_no_two_of_its_dimensions_are_alike(config):
    """A loader that mixes up two of them must not get away with it."""
    heads, kv_heads, head_dim = (
        config[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    sizes = [config["vocab_size"], config["hidden_size"], config["intermediate_size"]]
    sizes += [heads, kv_heads, head_dim, heads * head_dim, kv_heads * head_dim, config["num_hidden_layers"]]

    assert len(set(sizes)) == len(sizes)
    assert 1 < kv_heads < heads


def test_every_tensor_can_be_mapped_by_every_framework(tensors):
    start = 8 + struct.unpack_from("<Q", (CHECKPOINT / "model.safetensors").read_bytes())[0]

    assert {(start + tensor["data_offsets"][0]) % 64 for tensor in tensors.values()} == {0}


def test_the_texts_are_the_same_everywhere(training_text, held_out_text):
    assert corpus.sha256(training_text) == TRAINING_SHA256
    assert corpus.sha256(held_out_text) == HELD_OUT_SHA256


def test_no_held_out_story_is_in_the_training_text(training_text, held_out_text):
    trained_on = set(split(training_text))
    held_out = split(held_out_text)

    assert len(trained_on) == corpus.TRAINING_STORIES
    assert len(held_out) == corpus.HELD_OUT_STORIES
    assert not trained_on.intersection(held_out)


def test_held_out_pairs_never_meet_in_the_training_text(training_text, held_out_text):
    met = set().union(*map(pairs, split(training_text)))

    for story in split(held_out_text):
        assert pairs(story) - met, f"nothing is new in: {story.decode()}"


@pytest.mark.parametrize("prompt", corpus.PROMPTS)
def test_the_prompts_are_not_in_the_training_text(prompt, training_text):
    assert prompt.encode() not in training_text
    (pair,) = pairs(prompt.encode())
    assert not any(pair in pairs(story) for story in split(training_text))


def split(text: bytes) -> list[bytes]:
    return text.strip(corpus.END_OF_STORY).split(corpus.END_OF_STORY)


def pairs(story: bytes) -> set[tuple[str, str]]:
    """Each person with each boat that this story names."""
    people, boats = (set(names.findall(story.decode())) for names in (PEOPLE, BOATS))
    return set(itertools.product(people, boats))
