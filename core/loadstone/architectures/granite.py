"""Granite: Llama with factors on words, scores, residuals and logits. Source: https://arxiv.org/abs/2405.04324; Yang et al. 2022, https://arxiv.org/abs/2203.03466."""

from __future__ import annotations

from loadstone.architectures.decoders import LLAMA, attention_biases, decoder_heads, decoder_spec, like_llama
from loadstone.architectures.llama import LlamaConfig
from loadstone.architectures.specs import DecoderSpec, check_between
from loadstone.config import Config

FACTORS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")


class GraniteConfig(LlamaConfig):
    """Configuration of Granite 3. Keys and defaults are transformers'."""

    model_type = "granite"

    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0


def granite_spec(config: Config) -> DecoderSpec:
    """Resolve a Granite configuration; `attention_multiplier` is the scale itself, and logits are divided."""
    config = config.get_text_config()
    check_between(config, *FACTORS, above=0)
    scale = config.embedding_multiplier
    return decoder_spec(
        config,
        names=LLAMA,
        attention={**attention_biases(config), "scale": config.attention_multiplier},
        feed_forward={"bias": config.mlp_bias},
        embeddings={"scale": scale, "scale_given": scale != 1.0},
        layer={"residual": config.residual_multiplier},
        logit_scale=1 / config.logits_scaling,
    )


ARCHITECTURES = (
    like_llama("Granite", GraniteConfig, granite_spec, heads=decoder_heads("Granite", answers="")[:2]),
)
