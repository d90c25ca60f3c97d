"""Ministral 3: Mistral whose queries grow with their position, as Llama 4's do. Source: https://huggingface.co/mistralai/Ministral-3-8B-Base-2512."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from loadstone.architectures.decoders import LLAMA, DecoderConfig, decoder_spec, key_value_heads, like_llama
from loadstone.architectures.parts import GrowthSpec
from loadstone.architectures.rope import original_context, rope_parameters
from loadstone.architectures.specs import DecoderSpec, check_between, divides
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class Ministral3Config(DecoderConfig):
    """Configuration of Ministral 3's text model. Keys and defaults are transformers'."""

    model_type = "ministral3"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **DecoderConfig.neutral,
        "layer_types": ("full_attention",),
    }
    default_rope: ClassVar[Mapping[str, Any]] = {
        "rope_type": "yarn",
        "rope_theta": 1000000.0,
        "factor": 16.0,
        "original_max_position_embeddings": 16384,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1,
    }

    vocab_size: int = 131072
    intermediate_size: int = 14336
    num_hidden_layers: int = 34
    num_key_value_heads: int = derived(lambda config: key_value_heads(config, 8))
    head_dim: int = derived(lambda config: head_size(config))
    max_position_embeddings: int = 262144
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 11
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    sliding_window: int | None = None


def head_size(config: Config) -> int:
    """Return 128 where a configuration does not speak of heads' size; null means that they share the hidden size."""
    return divides(config, "hidden_size", "num_attention_heads") if "head_dim" in set(config) else 128


def ministral3_spec(config: Config) -> DecoderSpec:
    """Resolve a Ministral 3 configuration."""
    config = config.get_text_config()
    check_between(config, "sliding_window", above=0)
    windows = (config.sliding_window,) * config.num_hidden_layers
    return decoder_spec(config, names=LLAMA, windows=windows, attention={"growth": growth(config)})


def growth(config: Config) -> GrowthSpec:
    """Return how queries grow: what the rope's parameters say of it, in either spelling.

    Raises:
        ConfigError: If they do not.
    """
    parameters = rope_parameters(config)
    said = (parameters.get("llama_4_scaling_beta"), original_context(config, parameters))
    rate, span = map(finite, said)
    if rate is None or span is None or span <= 0:
        raise ConfigError(
            "how queries grow with their position cannot be computed",
            where="rope_parameters (or rope_scaling)",
            expected="llama_4_scaling_beta, and original_max_position_embeddings above 0",
            found="llama_4_scaling_beta={!r}, original_max_position_embeddings={!r}".format(*said),
            hint="correct config.json; without a rope at all it is that of the published models",
        )
    return GrowthSpec(rate=rate, span=span)


def finite(value: object) -> float | None:
    """Return a finite number as it is, and None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None


ARCHITECTURES = (like_llama("Ministral3", Ministral3Config, ministral3_spec, answers="model"),)
