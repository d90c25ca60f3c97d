"""Single blocks against what transformers' own modules compute."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loadstone import LlamaConfig
from loadstone.testing import assert_close
from loadstone_torch.blocks.attention import Attention, CrossAttention
from loadstone_torch.blocks.biases import RelativeBias, alibi
from loadstone_torch.blocks.embeddings import Embeddings
from loadstone_torch.blocks.feedforward import FeedForward
from loadstone_torch.blocks.layer import Layer
from loadstone_torch.blocks.run import Context, run_blocks
from loadstone_torch.generation import Cache
from loadstone_torch.layers import RMSNorm, RotaryEmbedding, without_memory
from loadstone_torch.models.bert import BertModel
from loadstone_torch.models.llama import LlamaModel
from tests.oracle.blocks import BLOCKS, HIDDEN, TOKENS, arrays

torch.set_num_threads(1)

KINDS = {
    "attention": Attention,
    "cross_attention": CrossAttention,
    "embeddings": Embeddings,
    "feed_forward": FeedForward,
    "layer": Layer,
}

CAUSAL = [name for name, block in BLOCKS.items() if block.kind == "attention" and "both-ways" not in name]


def of_kind(*kinds: str) -> Any:
    return pytest.mark.parametrize("case", [name for name, block in BLOCKS.items() if block.kind in kinds])


def built(case: str) -> nn.Module:
    """Return a block with the recorded weights, each of which it must have a place for."""
    block = BLOCKS[case]
    module = KINDS[block.kind](block.spec, block.names, HIDDEN).eval()
    weights = {name: torch.from_numpy(value) for name, value in arrays(case)["weight"].items()}
    module.load_state_dict(weights)
    return module


def context_of(case: str, **more: Any) -> tuple[Tensor, Context]:
    """Return a block's input and context."""
    spec, given = BLOCKS[case].spec, {k: torch.from_numpy(v) for k, v in arrays(case)["input"].items()}
    x, positions = given.pop("x"), given.pop("positions", None)
    given.pop("padding", None)
    rope = getattr(spec, "attention", spec).rope if BLOCKS[case].kind != "feed_forward" else None
    if rope is not None:
        more["rotary"] = RotaryEmbedding(rope)(x, positions)
    return x, Context(**given, **more)


def check(case: str, **found: Tensor) -> None:
    for name, value in found.items():
        assert_close(value.detach().numpy(), arrays(case)["output"][name], what=f"{case}: {name}")


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "fused"])
@of_kind("attention", "cross_attention")
def test_attention(case: str, eager: bool) -> None:
    x, context = context_of(case, eager=eager)
    mixed, weights = built(case)(x, context)
    check(case, mixed=mixed, **{"weights": weights} if eager else {})


@pytest.mark.parametrize("case", CAUSAL)
def test_attention_with_a_cache_goes_on_where_it_stopped(case: str) -> None:
    x, whole = context_of(case, cache=Cache())
    module, parts = built(case), []
    for start, end in ((0, 4), (4, 5), (5, TOKENS)):
        step = whole._replace(mask=whole.mask[:, :, start:end, :end])
        if whole.bias is not None:
            rows = slice(start, end) if whole.bias.shape[2] > 1 else slice(None)
            step = step._replace(bias=whole.bias[:, :, rows, :end])
        if whole.rotary is not None:
            step = step._replace(rotary=tuple(part[:, :, start:end] for part in whole.rotary))
        parts.append(module(x[:, start:end], step)[0])
    check(case, mixed=torch.cat(parts, dim=1))


def test_an_encoders_states_are_read_once() -> None:
    module, cache = built("cross"), Cache()
    x, context = context_of("cross", cache=cache)
    first, _ = module(x[:, :3], context)
    rest, _ = module(x[:, 3:], context._replace(memory=None))
    check("cross", mixed=torch.cat((first, rest), dim=1))
    assert cache.get_seq_length() == 0


@of_kind("feed_forward")
def test_feed_forward(case: str) -> None:
    check(case, x=built(case)(torch.from_numpy(arrays(case)["input"]["x"])))


@of_kind("layer")
def test_layer(case: str) -> None:
    x, context = context_of(case)
    check(case, x=run_blocks([built(case)], x, [context], keep_states=False)[0])


def model_of(case: str, model_class: type, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a base model of a case's spec, with the recorded weights."""
    monkeypatch.setattr("loadstone.architectures.resolve_spec", lambda *_: BLOCKS[case].spec)
    with without_memory(torch.float32):
        model = model_class(LlamaConfig()).eval()
    weights = {name: torch.from_numpy(value) for name, value in arrays(case)["weight"].items()}
    model.load_state_dict(weights, assign=True)
    for module in model.modules():
        if isinstance(module, RotaryEmbedding):
            module.compute(torch.device("cpu"))
    return model


def check_model(case: str, model: Any) -> None:
    inputs = {name: torch.from_numpy(value) for name, value in arrays(case)["input"].items()}
    output = model(**inputs, output_hidden_states=True)
    states = {f"hidden_states/{layer}": state for layer, state in enumerate(output.hidden_states)}
    check(case, last_hidden_state=output.last_hidden_state, **states)


@of_kind("decoder")
def test_decoder(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(case, LlamaModel, monkeypatch)
    rotary = {name for name, module in model.named_modules() if isinstance(module, RotaryEmbedding)}
    expected = {"ropes-two": {"rotary_emb", "rotary_emb_1"}, "ropes-some": {"rotary_emb"}}
    assert rotary == expected[case]
    check_model(case, model)


@of_kind("encoder")
def test_encoder(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_model(case, model_of(case, BertModel, monkeypatch))


@of_kind("relative_bias")
def test_relative_positions(case: str) -> None:
    spec, recorded = BLOCKS[case].spec, arrays(case)
    module = RelativeBias(spec, recorded["weight"]["weight"].shape[1])
    module.load_state_dict({"weight": torch.from_numpy(recorded["weight"]["weight"])})
    check(case, bias=module(5, TOKENS))
    sizes = dataclasses.replace(spec, buckets=32, max_distance=128)
    assert np.array_equal(sizes.table, recorded["output"]["buckets"])


def test_alibi() -> None:
    given = arrays("alibi")["input"]
    found = alibi(3, torch.from_numpy(given["padding"]), torch.float32)
    assert_close(found.numpy(), given["bias"], what="alibi")


def test_a_wide_norm_rounds_once() -> None:
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    wide, narrow = RMSNorm(16, 1e-6, wide=True), RMSNorm(16, 1e-6)
    for norm in (wide, narrow):
        norm.weight.data = torch.linspace(0.1, 3, 16).bfloat16()
    y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)
    assert torch.equal(wide(x), (wide.weight.float() * y).bfloat16())
    assert not torch.equal(wide(x), narrow(x))


@of_kind("embeddings")
def test_learned_positions_begin_at_a_later_row(case: str) -> None:
    ids, module = torch.from_numpy(arrays(case)["input"]["input_ids"]), built(case)
    words = module.embed_tokens(ids)
    check(case, summed=module(words, None, module.positions(ids, words)))
