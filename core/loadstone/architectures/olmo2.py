"""OLMo 2: norms after each part, and of all queries and all keys of a token. Source: OLMo team 2024, https://arxiv.org/abs/2501.00656."""

from __future__ import annotations

import dataclasses
from typing import Any

from loadstone.architectures.decoders import (
    LLAMA,
    DecoderConfig,
    attention_biases,
    decoder_heads,
    decoder_spec,
    like_llama,
)
from loadstone.architectures.llama import LlamaConfig
from loadstone.architectures.parts import NormSpec
from loadstone.architectures.specs import DecoderSpec
from loadstone.config import Config


class Olmo2Config(DecoderConfig):
    """Configuration of OLMo 2. Keys and defaults are transformers'."""

    model_type = "olmo2"
    neutral = LlamaConfig.neutral

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 50279
    attention_bias: bool = False


NAMES = dataclasses.replace(
    LLAMA,
    attention=dataclasses.replace(
        LLAMA.attention,
        query_norm="self_attn.q_norm",
        key_norm="self_attn.k_norm",
        before="",
        after="post_attention_layernorm",
    ),
    feed_forward=dataclasses.replace(LLAMA.feed_forward, before="", after="post_feedforward_layernorm"),
)


def olmo2_spec(config: Config) -> DecoderSpec:
    """Resolve an OLMo 2 configuration."""
    return normed_after(config.get_text_config())


def normed_after(config: Config, **layers: Any) -> DecoderSpec:
    """Resolve a configuration as OLMo 2's are; `layers` are the windows and ropes of `decoder_spec`."""
    norm = NormSpec(kind="rms", eps=config.rms_norm_eps, wide=True)
    attention = {**attention_biases(config), "qk_norm": norm, "qk_norm_whole": True}
    return decoder_spec(config, names=NAMES, attention=attention, norm={"wide": True}, **layers)


ARCHITECTURES = (like_llama("Olmo2", Olmo2Config, olmo2_spec, heads=decoder_heads("Olmo2", answers="")[:-1]),)
