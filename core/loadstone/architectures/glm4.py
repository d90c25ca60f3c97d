"""GLM 4: half of each head is rotated, neighbouring channels together, and each part is normalised before and after.

Source: GLM team 2024, https://arxiv.org/abs/2406.12793; https://huggingface.co/THUDM/GLM-4-9B-0414.
"""

from __future__ import annotations

import dataclasses

from loadstone.architectures.decoders import LLAMA, DecoderConfig, decoder_spec, like_llama
from loadstone.architectures.llama import LlamaConfig
from loadstone.architectures.names import FeedForwardNames
from loadstone.architectures.rope import rope_spec
from loadstone.architectures.specs import DecoderSpec
from loadstone.config import Config, derived


class Glm4Config(DecoderConfig):
    """Configuration of GLM 4. Keys and defaults are transformers'."""

    model_type = "glm4"
    neutral = LlamaConfig.neutral

    vocab_size: int = 151552
    intermediate_size: int = 13696
    num_hidden_layers: int = 40
    num_key_value_heads: int = 2
    head_dim: int = 128
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1.5625e-7
    pad_token_id: int | None = 151329
    eos_token_id: int | list[int] | None = derived(lambda config: [151329, 151336, 151338])
    partial_rotary_factor: float = 0.5
    attention_bias: bool = True


NAMES = dataclasses.replace(
    LLAMA,
    attention=dataclasses.replace(LLAMA.attention, after="post_self_attn_layernorm"),
    feed_forward=FeedForwardNames(
        gate_up="mlp.gate_up_proj",
        down="mlp.down_proj",
        before="post_attention_layernorm",
        after="post_mlp_layernorm",
    ),
)


def glm4_spec(config: Config) -> DecoderSpec:
    """Resolve a GLM 4 configuration; the projection back has no bias."""
    config = config.get_text_config()
    rope = dataclasses.replace(rope_spec(config, head_dim=config.head_dim, partial=True), interleaved=True)
    return decoder_spec(
        config,
        names=NAMES,
        ropes=(rope,) * config.num_hidden_layers,
        attention={"bias": config.attention_bias},
    )


ARCHITECTURES = (like_llama("Glm4", Glm4Config, glm4_spec, answers=""),)
