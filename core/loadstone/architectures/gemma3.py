"""Gemma 3's text model: Gemma 2 with two ropes, normalised queries and keys, and five windowed layers for each full one.

Source: Gemma team 2025, https://arxiv.org/abs/2503.19786.
"""

from __future__ import annotations

import dataclasses

from loadstone.architectures.decoders import (
    attention_biases,
    decoder_heads,
    decoder_spec,
    layer_windows,
    like_llama,
)
from loadstone.architectures.layered import LayeredConfig, every, layer_ropes
from loadstone.architectures.llama import GEMMA2, GEMMA_NORMS
from loadstone.architectures.parts import NormSpec
from loadstone.architectures.specs import DecoderSpec, activation, check_between
from loadstone.config import Config, derived


class Gemma3TextConfig(LayeredConfig):
    """Configuration of Gemma 3's text model. Keys and defaults are transformers'."""

    model_type = "gemma3_text"
    default_theta = 1000000.0

    vocab_size: int = 262208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 131072
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = False
    query_pre_attn_scalar: float = 256
    final_logit_softcapping: float | None = None
    rope_local_base_freq: float = 10000.0
    sliding_window_pattern: int = 6
    layer_types: list[str] = derived(
        lambda config: every(config.num_hidden_layers, config.sliding_window_pattern)
    )

    def local_theta(self) -> float:
        """Return the base of the windowed layers where their section does not speak of it."""
        return float(self.rope_local_base_freq)


NAMES = dataclasses.replace(
    GEMMA2,
    attention=dataclasses.replace(
        GEMMA2.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"
    ),
)


def gemma3_spec(config: Config) -> DecoderSpec:
    """Resolve a Gemma 3 configuration.

    Where tokens see those after them too (EmbeddingGemma), a window is half on either side. `attn_logit_softcapping` is read by no
    Gemma 3 of transformers.
    """
    config = config.get_text_config()
    check_between(config, "query_pre_attn_scalar", "final_logit_softcapping", above=0)
    both_ways, windows = bool(config.use_bidirectional_attention), layer_windows(config)
    if both_ways:
        windows = tuple(window and window // 2 for window in windows)
    norm = NormSpec(kind="rms", eps=config.rms_norm_eps, offset=True)
    scale = config.query_pre_attn_scalar**-0.5
    spec = decoder_spec(
        config,
        names=NAMES,
        windows=windows,
        ropes=layer_ropes(config),
        attention={**attention_biases(config), "scale": scale, "qk_norm": norm},
        feed_forward={"activation": activation(config.hidden_activation)},
        norm={"offset": True},
        embeddings={"scale": config.hidden_size**0.5},
        logit_softcap=config.final_logit_softcapping,
    )
    return dataclasses.replace(spec, causal=spec.causal and not both_ways)


BASE, WORDS, SEQUENCES = decoder_heads("Gemma3Text", answers="")[:3]
HEADS = (BASE, dataclasses.replace(WORDS, class_name="Gemma3ForCausalLM"), SEQUENCES)
NORMS = dict.fromkeys(("layers.{}.self_attn.q_norm.weight", "layers.{}.self_attn.k_norm.weight"), "zeros")
ARCHITECTURES = (
    like_llama("Gemma3Text", Gemma3TextConfig, gemma3_spec, heads=HEADS, drawn={**GEMMA_NORMS, **NORMS}),
)
