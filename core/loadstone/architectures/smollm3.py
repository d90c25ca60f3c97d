"""SmolLM3: Llama with layers that rotate nothing. Source: https://huggingface.co/blog/smollm3; Yang et al. 2025, https://arxiv.org/abs/2501.18795."""

from __future__ import annotations

from loadstone.architectures.decoders import (
    FULL,
    LLAMA,
    SLIDING,
    DecoderConfig,
    attention_biases,
    decoder_spec,
    key_value_heads,
    layer_windows,
    like_llama,
    window_of,
)
from loadstone.architectures.rope import rope_spec
from loadstone.architectures.specs import DecoderSpec
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class SmolLM3Config(DecoderConfig):
    """Configuration of SmolLM3. Keys and defaults are transformers'."""

    model_type = "smollm3"
    default_theta = 2000000.0

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int = derived(lambda config: key_value_heads(config, 4))
    max_position_embeddings: int = 32768
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    tie_word_embeddings: bool = True
    use_sliding_window: bool = False
    sliding_window: int | None = None
    no_rope_layer_interval: int = 4
    no_rope_layers: list[int] = derived(lambda config: rotated_by_interval(config))
    layer_types: list[str] = derived(lambda config: windowed_unrotated(config))
    attention_bias: bool = False
    mlp_bias: bool = False


def rotated_by_interval(config: Config) -> list[int]:
    """Return 1 for each layer that rotates, and 0 for every so many-th, which does not.

    Raises:
        ConfigError: If the interval is zero.
    """
    interval = config.no_rope_layer_interval
    if not interval:
        raise ConfigError(
            "there is no interval between layers without rope",
            where="no_rope_layer_interval",
            expected="a number of layers",
            found=interval,
            hint="correct config.json, or say of each layer whether it rotates, as no_rope_layers",
        )
    return [int((layer + 1) % interval != 0) for layer in range(config.num_hidden_layers)]


def windowed_unrotated(config: Config) -> list[str]:
    """Return layer types that are windowed where a layer does not rotate, where windows are used at all."""
    used = window_of(config) is not None
    return [FULL if rotates or not used else SLIDING for rotates in rotations(config)]


def rotations(config: Config) -> tuple[bool, ...]:
    """Return whether each layer rotates.

    Raises:
        ConfigError: If the configuration does not say it of each.
    """
    said, layers = config.no_rope_layers, config.num_hidden_layers
    if len(said) < layers:
        raise ConfigError(
            "no_rope_layers does not fit the model",
            where="no_rope_layers",
            expected=f"at least {layers} times 1 (rotates) or 0",
            found=said,
            hint="correct config.json",
        )
    return tuple(map(bool, said[:layers]))


def smollm3_spec(config: Config) -> DecoderSpec:
    """Resolve a SmolLM3 configuration."""
    config = config.get_text_config()
    rope = rope_spec(config, head_dim=config.head_dim)
    return decoder_spec(
        config,
        names=LLAMA,
        windows=layer_windows(config),
        ropes=[rope if rotates else None for rotates in rotations(config)],
        attention=attention_biases(config),
        feed_forward={"bias": config.mlp_bias},
    )


ARCHITECTURES = (like_llama("SmolLM3", SmolLM3Config, smollm3_spec),)
