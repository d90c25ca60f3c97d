"""Arcee: Llama without a gate. Source: https://huggingface.co/arcee-ai/AFM-4.5B."""

import dataclasses

from loadstone.architectures import DecoderSpec, FeedForwardNames
from loadstone.architectures.decoders import LLAMA, attention_biases, decoder_spec, like_llama
from loadstone.architectures.llama import LlamaConfig
from loadstone.config import Config


class ArceeConfig(LlamaConfig):
    """Keys and defaults that are other than Llama's."""

    model_type = "arcee"

    hidden_size: int = 2560
    intermediate_size: int = 18432
    hidden_act: str = "relu2"
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001


FEED_FORWARD = FeedForwardNames(up="mlp.up_proj", down="mlp.down_proj", before="post_attention_layernorm")
NAMES = dataclasses.replace(LLAMA, feed_forward=FEED_FORWARD)


def arcee_spec(config: Config) -> DecoderSpec:
    """Resolve a configuration."""
    config = config.get_text_config()
    biases = {"bias": config.mlp_bias}
    return decoder_spec(config, names=NAMES, attention=attention_biases(config), feed_forward=biases)


ARCEE = like_llama("Arcee", ArceeConfig, arcee_spec)
