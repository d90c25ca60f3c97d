"""Computes the blocks of `tests/oracle/blocks.py` with transformers' own modules.

    python tests/oracle/record_blocks.py FILE.npz

B batch, T query tokens, S key tokens, M tokens of an encoder, C hidden size.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[2]) if __name__ == "__main__" else sys.path[0]

import numpy as np

from loadstone.architectures import BucketSpec
from tests.oracle.blocks import (
    BATCH,
    BLOCKS,
    EPS,
    GROUPS,
    HEAD,
    HEADS,
    HIDDEN,
    MEMORY,
    MIDDLE,
    THETA,
    TOKENS,
    WINDOW,
    WORDS,
    fingerprint,
)


def record() -> dict[str, np.ndarray]:
    """Compute every case with transformers' modules."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    recorded: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for case, make in _RECORDERS.items():
            weights, inputs, outputs = make()
            for kind, held in (("weight", weights), ("input", inputs), ("output", outputs)):
                for name, value in held.items():
                    recorded[f"{case}/{kind}/{name}"] = np.asarray(value)
    return recorded


def _drawn(module: Any) -> dict[str, Any]:
    """Draw every parameter, norms about 1, and return them."""
    import torch

    for name, parameter in module.named_parameters():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.copy_(centre + 0.4 * torch.randn(parameter.shape))
    return {name: value.numpy() for name, value in module.eval().state_dict().items()}


def _states(tokens: int = TOKENS) -> Any:
    import torch

    return torch.randn(BATCH, tokens, HIDDEN)


def _padding() -> Any:
    """(B, T), zero where a row is padded on the left."""
    import torch

    padding = torch.ones(BATCH, TOKENS, dtype=torch.long)
    padding[1, :3] = 0
    return padding


def _mask(window: int | None = None, *, causal: bool = True) -> Any:
    """True where a query may look, (B, 1, T, S); padding sees itself."""
    import torch

    place = torch.arange(TOKENS)
    allowed = place <= place[:, None] if causal else torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    if window is not None:
        allowed = allowed & (place > place[:, None] - window)
    seen = allowed & _padding()[:, None, :].bool()
    return (seen | torch.eye(TOKENS, dtype=torch.bool))[:, None]


def _added(mask: Any) -> Any:
    """The same as what is added to scores."""
    import torch

    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


def _positions() -> Any:
    import torch

    return torch.stack((torch.arange(TOKENS), torch.arange(TOKENS) + 5))


def _sizes(**fields: Any) -> dict[str, Any]:
    rotated = {"rope_type": "default", "rope_theta": THETA, **fields.pop("rope", {})}
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": MIDDLE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "head_dim": HEAD,
        "num_hidden_layers": 2,
        "rms_norm_eps": EPS,
        "attention_dropout": 0.0,
        "rope_parameters": rotated,
        "attn_implementation": "eager",
        "pad_token_id": 0,
        **fields,
    }


def _by_attention(attention: Any, rotary: Any, window: int | None = None) -> Any:
    """Record a decoder's attention."""
    weights, x, mask = _drawn(attention), _states(), _mask(window)
    turned = rotary(x, _positions()) if rotary is not None else (None, None)
    mixed, attended = attention(x, position_embeddings=turned, attention_mask=_added(mask))
    inputs = {"x": x, "mask": mask, "positions": _positions()}
    return weights, inputs, {"mixed": mixed, "weights": attended}


def _sinks() -> Any:
    from transformers.models.gpt_oss import modeling_gpt_oss as theirs
    from transformers.models.gpt_oss.configuration_gpt_oss import GptOssConfig

    config = GptOssConfig(**_sizes(attention_bias=True, sliding_window=WINDOW))
    return _by_attention(theirs.GptOssAttention(config, 0), theirs.GptOssRotaryEmbedding(config), WINDOW)


def _glm() -> Any:
    from transformers.models.glm import modeling_glm as theirs
    from transformers.models.glm.configuration_glm import GlmConfig

    config = GlmConfig(**_sizes(head_dim=8, attention_bias=True, rope={"partial_rotary_factor": 0.5}))
    return _by_attention(theirs.GlmAttention(config, 0), theirs.GlmRotaryEmbedding(config))


def _cohere() -> Any:
    from transformers.models.cohere import modeling_cohere as theirs
    from transformers.models.cohere.configuration_cohere import CohereConfig

    config = CohereConfig(**_sizes(attention_bias=False, use_qk_norm=False))
    config.head_dim = HEAD
    return _by_attention(theirs.CohereAttention(config, 0), theirs.CohereRotaryEmbedding(config))


def _smollm3() -> Any:
    from transformers.models.smollm3 import modeling_smollm3 as theirs
    from transformers.models.smollm3.configuration_smollm3 import SmolLM3Config

    config = SmolLM3Config(**_sizes(attention_bias=False, no_rope_layers=[0, 1], use_sliding_window=False))
    config.head_dim = HEAD
    return _by_attention(theirs.SmolLM3Attention(config, 0), theirs.SmolLM3RotaryEmbedding(config))


def _phi3_config() -> Any:
    from transformers.models.phi3.configuration_phi3 import Phi3Config

    config = Phi3Config(**_sizes())
    config.head_dim = HEAD
    return config


def _phi3() -> Any:
    from transformers.models.phi3 import modeling_phi3 as theirs

    return _by_attention(theirs.Phi3Attention(_phi3_config(), 0), theirs.Phi3RotaryEmbedding(_phi3_config()))


def _phi3_mlp() -> Any:
    from transformers.models.phi3 import modeling_phi3 as theirs

    module = theirs.Phi3MLP(_phi3_config())
    weights, x = _drawn(module), _states()
    return weights, {"x": x}, {"x": module(x)}


def _olmo2() -> Any:
    from transformers.models.olmo2 import modeling_olmo2 as theirs
    from transformers.models.olmo2.configuration_olmo2 import Olmo2Config

    config = Olmo2Config(**_sizes(attention_bias=False))
    config.head_dim = HEAD
    layer, rotary = theirs.Olmo2DecoderLayer(config, 0), theirs.Olmo2RotaryEmbedding(config)
    weights, x, mask = _drawn(layer), _states(), _mask()
    out = layer(x, attention_mask=_added(mask), position_embeddings=rotary(x, _positions()))
    return weights, {"x": x, "mask": mask, "positions": _positions()}, {"x": out}


def _bloom() -> Any:
    import torch
    from transformers.models.bloom import modeling_bloom as theirs
    from transformers.models.bloom.configuration_bloom import BloomConfig

    attention = theirs.BloomAttention(
        BloomConfig(hidden_size=HIDDEN, n_head=3, attention_dropout=0.0, hidden_dropout=0.0), 0
    )
    drawn, x, mask = _drawn(attention), _states(), _mask()
    # Bloom stores a head's queries, keys and values one after the other.
    fused = {leaf: drawn.pop(f"query_key_value.{leaf}") for leaf in ("weight", "bias")}
    for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
        for leaf, value in fused.items():
            part = value.reshape(3, 3, HIDDEN // 3, *value.shape[1:])[:, place]
            drawn[f"{name}.{leaf}"] = part.reshape(HIDDEN, *value.shape[1:])
    bias = theirs.build_alibi_tensor(_padding(), 3, torch.float32)
    mixed, weights = attention(x, torch.zeros_like(x), bias, _added(mask))
    inputs = {"x": x, "mask": mask, "padding": _padding(), "bias": bias.view(BATCH, 3, 1, TOKENS)}
    return drawn, inputs, {"mixed": mixed, "weights": weights}


def _t5_attention(spec: BucketSpec) -> Any:
    from transformers.models.t5 import modeling_t5 as theirs
    from transformers.models.t5.configuration_t5 import T5Config

    config = T5Config(
        d_model=HIDDEN,
        d_kv=5,
        num_heads=HEADS,
        relative_attention_num_buckets=spec.buckets,
        relative_attention_max_distance=spec.max_distance,
        is_decoder=not spec.both_ways,
        attn_implementation="eager",
    )
    return theirs.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)


def _t5(relative: str) -> Any:
    spec = BLOCKS[relative].spec
    attention = _t5_attention(spec)
    drawn, x, mask = _drawn(attention), _states(), _mask(causal=not spec.both_ways)
    del drawn["relative_attention_bias.weight"]
    mixed, bias, weights = attention(x, mask=_added(mask))
    return drawn, {"x": x, "mask": mask, "bias": bias}, {"mixed": mixed, "weights": weights}


def _relative(relative: str) -> Any:
    """Record a bias of the last 5 of 11 tokens, and the buckets of all distances in T5's own sizes."""
    import torch

    spec = BLOCKS[relative].spec
    attention = _t5_attention(spec)
    weight = _drawn(attention)["relative_attention_bias.weight"]
    bias = attention.compute_bias(5, TOKENS, past_seen_tokens=TOKENS - 5)
    buckets = attention._relative_position_bucket(
        torch.arange(-128, 129), bidirectional=spec.both_ways, num_buckets=32, max_distance=128
    )
    return {"weight": weight}, {}, {"bias": bias, "buckets": buckets}


def _bart_config() -> Any:
    from transformers.models.bart.configuration_bart import BartConfig

    return BartConfig(
        d_model=HIDDEN,
        decoder_attention_heads=HEADS,
        decoder_ffn_dim=MIDDLE,
        dropout=0.0,
        attn_implementation="eager",
    )


def _memory() -> tuple[Any, Any]:
    """An encoder's states, and where a query may look among them, (B, 1, 1, M)."""
    import torch

    mask = torch.ones(BATCH, 1, 1, MEMORY, dtype=torch.bool)
    mask[0, ..., -2:] = False
    return _states(MEMORY), mask


def _bart() -> Any:
    from transformers.models.bart import modeling_bart as theirs

    attention = theirs.BartAttention(HIDDEN, HEADS, is_decoder=True, config=_bart_config(), layer_idx=0)
    weights, x, (memory, mask) = _drawn(attention), _states(), _memory()
    mixed, attended = attention(x, key_value_states=memory, attention_mask=_added(mask))
    inputs = {"x": x, "memory": memory, "memory_mask": mask}
    return weights, inputs, {"mixed": mixed, "weights": attended}


def _bart_layer() -> Any:
    from transformers.models.bart import modeling_bart as theirs

    layer = theirs.BartDecoderLayer(_bart_config(), layer_idx=0)
    weights, x, mask, (memory, memory_mask) = _drawn(layer), _states(), _mask(), _memory()
    out = layer(
        x,
        attention_mask=_added(mask),
        encoder_hidden_states=memory,
        encoder_attention_mask=_added(memory_mask),
    )
    inputs = {"x": x, "mask": mask, "memory": memory, "memory_mask": memory_mask}
    return weights, inputs, {"x": out}


def _decoder(model: Any) -> Any:
    import torch

    ids = torch.randint(1, WORDS, (BATCH, TOKENS))
    weights = _drawn(model)
    output = model(ids, output_hidden_states=True)
    states = {f"hidden_states/{layer}": state for layer, state in enumerate(output.hidden_states)}
    return weights, {"input_ids": ids}, {"last_hidden_state": output.last_hidden_state, **states}


def _gemma3() -> Any:
    from transformers.models.gemma3 import modeling_gemma3 as theirs
    from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig

    sliding, full = "sliding_attention", "full_attention"
    config = Gemma3TextConfig(
        **_sizes(vocab_size=WORDS, num_hidden_layers=3, query_pre_attn_scalar=5, sliding_window=WINDOW)
        | {"layer_types": [sliding, full, sliding], "hidden_activation": "gelu_pytorch_tanh"}
        | {
            "rope_parameters": {
                sliding: {"rope_type": "default", "rope_theta": THETA},
                full: {"rope_type": "default", "rope_theta": 500.0},
            }
        }
    )
    return _decoder(theirs.Gemma3TextModel(config))


def _smollm3_model() -> Any:
    from transformers.models.smollm3 import modeling_smollm3 as theirs
    from transformers.models.smollm3.configuration_smollm3 import SmolLM3Config

    config = SmolLM3Config(
        **_sizes(vocab_size=WORDS, num_hidden_layers=3, attention_bias=False, no_rope_layers=[1, 0, 1])
    )
    config.head_dim = HEAD
    return _decoder(theirs.SmolLM3Model(config))


def _electra() -> Any:
    import torch
    from transformers.models.electra import modeling_electra as theirs
    from transformers.models.electra.configuration_electra import ElectraConfig

    config = ElectraConfig(
        vocab_size=WORDS,
        embedding_size=10,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=MIDDLE,
        max_position_embeddings=TOKENS,
        layer_norm_eps=EPS,
        attn_implementation="eager",
    )
    model = theirs.ElectraModel(config)
    weights = _drawn(model)
    inputs = {
        "input_ids": torch.randint(1, WORDS, (BATCH, TOKENS)),
        "attention_mask": _padding(),
        "token_type_ids": torch.randint(0, 2, (BATCH, TOKENS)),
    }
    output = model(**inputs, output_hidden_states=True)
    states = {f"hidden_states/{layer}": state for layer, state in enumerate(output.hidden_states)}
    return weights, inputs, {"last_hidden_state": output.last_hidden_state, **states}


def _opt() -> Any:
    import torch
    from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding

    table = torch.nn.ModuleDict(
        {
            "embed_tokens": torch.nn.Embedding(WORDS, HIDDEN),
            "embed_positions": OPTLearnedPositionalEmbedding(TOKENS, HIDDEN),
        }
    )
    weights = _drawn(table)
    ids = torch.randint(1, WORDS, (BATCH, TOKENS))
    summed = table["embed_tokens"](ids) + table["embed_positions"](torch.ones_like(ids))
    return weights, {"input_ids": ids}, {"summed": summed}


_RECORDERS: Mapping[str, Callable[[], Any]] = {
    "sinks": _sinks,
    "alibi": _bloom,
    "buckets-both-ways": functools.partial(_t5, "relative-both-ways"),
    "buckets-one-way": functools.partial(_t5, "relative-one-way"),
    "relative-both-ways": functools.partial(_relative, "relative-both-ways"),
    "relative-one-way": functools.partial(_relative, "relative-one-way"),
    "cross": _bart,
    "rope-part-interleaved": _glm,
    "rope-interleaved": _cohere,
    "rope-none": _smollm3,
    "fused-qkv": _phi3,
    "fused-gate": _phi3_mlp,
    "norms-after": _olmo2,
    "cross-layer": _bart_layer,
    "ropes-two": _gemma3,
    "ropes-some": _smollm3_model,
    "words-factorised": _electra,
    "positions-offset": _opt,
}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_suffix(".new.npz")
    np.savez(made, fingerprint=np.asarray(fingerprint()), **record())
    made.replace(out)
