"""Llama, Mistral, Gemma and Qwen.

Sources: Llama: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Dubey et al. 2024, https://arxiv.org/abs/2407.21783.
Mistral: Jiang et al. 2023, https://arxiv.org/abs/2310.06825. Gemma: https://arxiv.org/abs/2403.08295; Gemma 2:
https://arxiv.org/abs/2408.00118. Qwen 2: https://arxiv.org/abs/2407.10671; Qwen 3: https://arxiv.org/abs/2505.09388.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures.decoders import (
    LLAMA,
    PLAIN_NORMS,
    DecoderConfig,
    all_alike,
    alternating,
    attention_biases,
    decoder_spec,
    key_value_heads,
    layer_windows,
    like_llama,
    norms_of,
    windowed_after,
)
from loadstone.architectures.parts import NormSpec
from loadstone.architectures.specs import NEUTRAL_WINDOWS, DecoderSpec, activation, check_between
from loadstone.config import Config, derived


class LlamaConfig(DecoderConfig):
    """Configuration of Llama 1, 2 and 3."""

    model_type = "llama"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {**DecoderConfig.neutral, **NEUTRAL_WINDOWS}

    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int | None = 1
    attention_bias: bool = False
    mlp_bias: bool = False


class MistralConfig(DecoderConfig):
    """Configuration of Mistral, and with `layer_types` of what transformers calls Ministral."""

    model_type = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int = derived(lambda config: key_value_heads(config, 8))
    max_position_embeddings: int = 4096 * 32
    sliding_window: int | None = 4096
    layer_types: list[str] = derived(lambda config: all_alike(config))
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


class GemmaConfig(DecoderConfig):
    """Configuration of Gemma."""

    model_type = "gemma"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **DecoderConfig.neutral,
        **NEUTRAL_WINDOWS,
        "use_bidirectional_attention": (False,),
    }

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = None


class Gemma2Config(GemmaConfig):
    """Configuration of Gemma 2."""

    model_type = "gemma2"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **DecoderConfig.neutral,
        "use_bidirectional_attention": (False,),
    }

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    hidden_activation: str = "gelu_pytorch_tanh"
    query_pre_attn_scalar: float = 256
    sliding_window: int | None = 4096
    layer_types: list[str] = derived(lambda config: alternating(config.num_hidden_layers))
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0


class Qwen2Config(DecoderConfig):
    """Configuration of Qwen 2 and 2.5."""

    model_type = "qwen2"

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int = derived(lambda config: key_value_heads(config, 32))
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] = derived(lambda config: windowed_after(config, config.max_window_layers))


class Qwen3Config(Qwen2Config):
    """Configuration of Qwen 3."""

    model_type = "qwen3"

    head_dim: int = 128
    attention_bias: bool = False


QWEN3 = dataclasses.replace(
    LLAMA,
    attention=dataclasses.replace(
        LLAMA.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"
    ),
)
GEMMA2 = dataclasses.replace(
    LLAMA,
    attention=dataclasses.replace(LLAMA.attention, after="post_attention_layernorm"),
    feed_forward=dataclasses.replace(
        LLAMA.feed_forward, before="pre_feedforward_layernorm", after="post_feedforward_layernorm"
    ),
)


def llama_spec(config: Config) -> DecoderSpec:
    """Resolve a Llama configuration."""
    config = config.get_text_config()
    return decoder_spec(
        config, names=LLAMA, attention=attention_biases(config), feed_forward={"bias": config.mlp_bias}
    )


def mistral_spec(config: Config) -> DecoderSpec:
    """Resolve a Mistral configuration: every layer attends within one window, unless the layers' types say otherwise."""
    config = config.get_text_config()
    return decoder_spec(config, names=LLAMA, windows=layer_windows(config))


def gemma_spec(config: Config) -> DecoderSpec:
    """Resolve a Gemma configuration: scaled embeddings, norms that multiply by one plus their weight.

    Its first release wrote "gelu" and meant the approximation; transformers takes it so, and reads no `hidden_activation`.
    """
    config = config.get_text_config()
    meant = "gelu_pytorch_tanh" if config.hidden_act == "gelu" else config.hidden_act
    return decoder_spec(
        config,
        names=LLAMA,
        attention=attention_biases(config),
        feed_forward={"activation": activation(meant)},
        norm={"offset": True},
        embeddings={"scale": config.hidden_size**0.5},
    )


def gemma2_spec(config: Config) -> DecoderSpec:
    """Resolve a Gemma 2 configuration: Gemma with soft caps, norms around each block, and every other layer windowed."""
    config = config.get_text_config()
    check_between(
        config, "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", above=0
    )
    capped = {"scale": config.query_pre_attn_scalar**-0.5, "softcap": config.attn_logit_softcapping}
    return decoder_spec(
        config,
        names=GEMMA2,
        windows=layer_windows(config),
        attention=attention_biases(config) | capped,
        feed_forward={"activation": activation(config.hidden_activation)},
        norm={"offset": True},
        embeddings={"scale": config.hidden_size**0.5},
        logit_softcap=config.final_logit_softcapping,
    )


def qwen2_spec(config: Config) -> DecoderSpec:
    """Resolve a Qwen 2 configuration: biases on queries, keys and values alone."""
    config = config.get_text_config()
    return decoder_spec(config, names=LLAMA, windows=layer_windows(config), attention={"bias": True})


def qwen3_spec(config: Config) -> DecoderSpec:
    """Resolve a Qwen 3 configuration: queries and keys are normalised."""
    config = config.get_text_config()
    normed = {"qk_norm": NormSpec(kind="rms", eps=config.rms_norm_eps)}
    return decoder_spec(
        config, names=QWEN3, windows=layer_windows(config), attention=attention_biases(config) | normed
    )


# A norm that multiplies by one plus its weight starts at zero.
GEMMA_NORMS = dict.fromkeys(norms_of(LLAMA) + norms_of(GEMMA2), "zeros")

EVEN_HEADS = dataclasses.replace(PLAIN_NORMS, even_heads=True)
MISTRAL_SPOKEN = {"tensorflow": dataclasses.replace(EVEN_HEADS, level="."), "flax": EVEN_HEADS}

ARCHITECTURES = (
    like_llama("Llama", LlamaConfig, llama_spec, spoken={"flax": EVEN_HEADS}),
    like_llama("Mistral", MistralConfig, mistral_spec, answers="model", spoken=MISTRAL_SPOKEN),
    like_llama("Gemma", GemmaConfig, gemma_spec, answers="", drawn=GEMMA_NORMS, spoken={"flax": PLAIN_NORMS}),
    like_llama("Gemma2", Gemma2Config, gemma2_spec, answers="", drawn=GEMMA_NORMS),
    like_llama("Qwen2", Qwen2Config, qwen2_spec),
    like_llama("Qwen3", Qwen3Config, qwen3_spec),
)
