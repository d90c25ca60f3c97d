"""Resizing a vocabulary: every name that is tied to it follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from loadstone import AutoConfig, LlamaConfig, LlamaForCausalLM, ViTModel
from loadstone.backend import get_backend
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.model.classes import add_classes
from loadstone_torch.layers import Embedding, Linear
from loadstone_torch.modeling import PreTrainedModel
from tests.shared_vocabulary import CHANNELS, TRIO, VOCABULARY, TrioConfig, check_put, check_resizing, offer
from tests.torch.tiny import IDS, LLAMA, model_of


class Stack(nn.Module):
    """An encoder or a decoder: its name of the words."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.embed_tokens = Embedding(spec.vocab_size, spec.hidden_size)


class TrioForCausalLM(PreTrainedModel):
    """Words under four names."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.shared = Embedding(self.spec.vocab_size, self.spec.hidden_size)
        self.encoder, self.decoder = Stack(self.spec), Stack(self.spec)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size)


add_classes(globals(), [TRIO])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [23, 11])
def test_every_tied_name_follows(rows: int, tied: bool, monkeypatch: Any, tmp_path: Any) -> None:
    offer(monkeypatch)
    model = TrioForCausalLM(TrioConfig(tie_word_embeddings=tied), seed=0)
    check_resizing(model, get_backend("torch"), tmp_path, rows, tied)


def test_a_tensor_of_another_shape_is_put_nowhere_and_resizing_is_a_verb_of_its_own(monkeypatch: Any) -> None:
    offer(monkeypatch)
    check_put(TrioForCausalLM(TrioConfig(tie_word_embeddings=False), seed=0), get_backend("torch"))


def ours_and_theirs(mean_resizing: bool, monkeypatch: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the embedding, the output layer and its bias with 4,000 new rows, as transformers draws them and as we do."""
    offer(monkeypatch)
    ours = TrioForCausalLM(TrioConfig(tie_word_embeddings=False, initializer_range=0.7), seed=0)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, mean=0.4, std=0.9)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=CHANNELS,
            intermediate_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            initializer_range=0.7,
        )
    )
    theirs.model.embed_tokens.weight.data = ours.shared.weight.data.clone()
    theirs.lm_head = nn.Linear(CHANNELS, VOCABULARY)
    theirs.lm_head.load_state_dict(ours.lm_head.state_dict())
    for model in (ours, theirs):
        model.resize_token_embeddings(VOCABULARY + 4000, mean_resizing=mean_resizing)
    yield ours.shared.weight, theirs.model.embed_tokens.weight
    yield ours.lm_head.weight, theirs.lm_head.weight
    yield ours.lm_head.bias, theirs.lm_head.bias


@pytest.mark.parametrize("mean_resizing", [True, False])
def test_new_rows_are_distributed_as_transformers_draws_them(mean_resizing: bool, monkeypatch: Any) -> None:
    torch.manual_seed(0)
    for ours, theirs in ours_and_theirs(mean_resizing, monkeypatch):
        old, drawn, expected = ours[:VOCABULARY], *(part[VOCABULARY:].double() for part in (ours, theirs))
        assert torch.equal(old, theirs[:VOCABULARY])
        # A mean of 4,000 rows is off by a sixty-third of their spread, a covariance by about as much.
        spread = expected.std(dim=0)
        assert ((drawn.mean(0) - expected.mean(0)).abs() <= 0.1 * spread + 1e-7).all()
        if ours.ndim == 1:
            assert torch.allclose(drawn.std(), spread, rtol=0.1, atol=1e-8)
        else:
            scale = spread[:, None] * spread[None]
            assert ((drawn.T.cov() - expected.T.cov()).abs() <= 0.15 * scale).all()


def test_too_few_rows_to_say_how_they_spread_give_their_mean() -> None:
    model = model_of("LlamaForCausalLM", vocab_size=7)
    old = model.lm_head.weight.detach().clone()
    model.resize_token_embeddings(9)
    assert torch.allclose(model.lm_head.weight[7:], old.mean(0).expand(2, -1), atol=1e-7)


def test_a_padding_token_that_is_cut_off_is_none(folders: Any) -> None:
    model = LlamaForCausalLM(LlamaConfig(**LLAMA | {"pad_token_id": 50}))
    model.resize_token_embeddings(40)
    assert model.model.embed_tokens.padding_idx is None
    assert model(IDS.clamp(max=39)).logits.shape[-1] == 40


def test_nothing_is_drawn_where_nothing_grows() -> None:
    model = model_of("LlamaForCausalLM")
    before, held = torch.get_rng_state(), model.lm_head.weight
    model.resize_token_embeddings(61)
    assert model.lm_head.weight is held
    model.resize_token_embeddings(60)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_without_words_has_no_vocabulary() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = ViTModel(AutoConfig.for_model("vit", **sizes))
    with pytest.raises(ArgumentError, match="reads no tokens"):
        model.resize_token_embeddings(40)
    assert "vocab_size" not in model.config.to_dict()
