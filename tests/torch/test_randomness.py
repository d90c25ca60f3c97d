"""PyTorch's global generator decides what is drawn: fresh weights, new heads, sampled tokens and new rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from loadstone import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from loadstone.errors import ArgumentError
from tests.torch.tiny import BERT, IDS, LLAMA, model_of


def constructed(folders: Any) -> torch.Tensor:
    return BertModel(BertConfig(**BERT)).embeddings.word_embeddings.weight


def from_config(folders: Any) -> torch.Tensor:
    return AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA), backend="torch").lm_head.weight


def new_head(folders: Any) -> torch.Tensor:
    return AutoModelForSequenceClassification.from_pretrained(folders["bert"]).classifier.weight


def mismatched(folders: Any) -> torch.Tensor:
    return AutoModelForSequenceClassification.from_pretrained(
        folders["labels"], num_labels=7, ignore_mismatched_sizes=True
    ).classifier.weight


def sampled(folders: Any) -> torch.Tensor:
    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    return model.generate(IDS, do_sample=True, temperature=3.0, max_new_tokens=12, eos_token_id=[])


def resized(folders: Any) -> torch.Tensor:
    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    return model.resize_token_embeddings(80, mean_resizing=False).weight[67:]


DRAWN = (constructed, from_config, new_head, mismatched, sampled, resized)


@pytest.mark.parametrize("drawn", DRAWN)
def test_the_global_generator_decides(drawn: Callable[[Any], torch.Tensor], folders: Any) -> None:
    torch.manual_seed(0)
    first, second = drawn(folders), drawn(folders)
    torch.manual_seed(0)
    again = drawn(folders)
    torch.manual_seed(1)
    other = drawn(folders)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_what_draws_nothing_leaves_the_generator_alone(folders: Any) -> None:
    before = torch.get_rng_state()
    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    model.generate(IDS, max_new_tokens=2)
    model.generate(IDS, max_new_tokens=2, do_sample=True, seed=1)
    LlamaForCausalLM.from_config(LlamaConfig(**LLAMA), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_goes_before_the_generator() -> None:
    def drawn(manual: int, seed: Any) -> torch.Tensor:
        torch.manual_seed(manual)
        return LlamaForCausalLM(LlamaConfig(**LLAMA), seed=seed).lm_head.weight

    assert torch.equal(drawn(0, 5), drawn(1, 5))
    assert torch.equal(drawn(0, 5), drawn(0, torch.tensor(5)))
    assert not torch.equal(drawn(0, 5), drawn(0, 0))


def test_a_negative_seed_samples() -> None:
    model = model_of("LlamaForCausalLM")
    written = [
        model.generate(IDS, do_sample=True, temperature=3.0, max_new_tokens=12, seed=seed)
        for seed in (-1, -1, 1)
    ]
    assert torch.equal(written[0], written[1])
    assert not torch.equal(written[0], written[2])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seed": "one"}, "seed is no whole number"),
        ({"seed": 1.5}, "seed is no whole number"),
        ({"rngs": torch.Generator()}, "the backend 'torch' takes no rngs="),
        ({"rngs": 1, "seed": 1}, "both say what is drawn"),
    ],
)
def test_seeds_that_are_none(arguments: Any, told: str, folders: Any) -> None:
    with pytest.raises(ArgumentError, match=told):
        LlamaForCausalLM(LlamaConfig(**LLAMA), **arguments)
    with pytest.raises(ArgumentError, match=told):
        LlamaForCausalLM.from_pretrained(folders["llama"], **arguments)
