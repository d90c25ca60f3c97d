"""Cohere 2 (Command R7B and A): attention and feed-forward side by side, windows with a rope, and every fourth layer without either.

Source: Cohere 2025, https://arxiv.org/abs/2504.00698.
"""

from __future__ import annotations

import dataclasses

from loadstone.architectures.decoders import (
    LLAMA,
    SLIDING,
    DecoderConfig,
    attention_biases,
    decoder_heads,
    decoder_spec,
    layer_windows,
    like_llama,
)
from loadstone.architectures.layered import every
from loadstone.architectures.rope import rope_spec
from loadstone.architectures.specs import DecoderSpec, check_between, divides
from loadstone.config import Config, derived


class Cohere2Config(DecoderConfig):
    """Configuration of Cohere 2. Keys and defaults are transformers'."""

    model_type = "cohere2"

    vocab_size: int = 256000
    hidden_size: int = 8192
    intermediate_size: int = 22528
    num_hidden_layers: int = 40
    num_attention_heads: int = 64
    max_position_embeddings: int = 8192
    layer_norm_eps: float = 1e-5
    logit_scale: float = 0.0625
    pad_token_id: int | None = 0
    bos_token_id: int | None = 5
    eos_token_id: int | list[int] | None = 255001
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    sliding_window: int | None = 4096
    sliding_window_pattern: int = 4
    layer_types: list[str] = derived(
        lambda config: every(config.num_hidden_layers, config.sliding_window_pattern)
    )


NAMES = dataclasses.replace(
    LLAMA, feed_forward=dataclasses.replace(LLAMA.feed_forward, before=LLAMA.attention.before)
)


def cohere2_spec(config: Config) -> DecoderSpec:
    """Resolve a Cohere 2 configuration; heads share the hidden size whatever `head_dim` says."""
    config = config.get_text_config()
    check_between(config, "layer_norm_eps")
    size = divides(config, "hidden_size", "num_attention_heads")
    rope = dataclasses.replace(rope_spec(config, head_dim=size), interleaved=True)
    return decoder_spec(
        config,
        names=NAMES,
        windows=layer_windows(config),
        ropes=[rope if kind == SLIDING else None for kind in config.layer_types],
        attention={**attention_biases(config), "head_dim": size, "scale": size**-0.5},
        norm={"kind": "layer", "eps": config.layer_norm_eps, "bias": False},
        layer={"parallel": True},
        logit_scale=config.logit_scale,
    )


ARCHITECTURES = (
    like_llama("Cohere2", Cohere2Config, cohere2_spec, heads=decoder_heads("Cohere2", answers="")[:2]),
)
