"""OLMo 3: OLMo 2 with windows in three of four layers, which have a rope of their own. Source: OLMo team 2025, https://arxiv.org/abs/2512.13961."""

from __future__ import annotations

from loadstone.architectures.decoders import decoder_heads, layer_windows, like_llama
from loadstone.architectures.layered import LayeredConfig, every, layer_ropes
from loadstone.architectures.olmo2 import normed_after
from loadstone.architectures.specs import DecoderSpec
from loadstone.config import Config, derived


class Olmo3Config(LayeredConfig):
    """Configuration of OLMo 3. Keys and defaults are transformers'."""

    model_type = "olmo3"
    default_theta = 500000.0

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279
    attention_bias: bool = False
    layer_types: list[str] = derived(lambda config: every(config.num_hidden_layers, 4))


def olmo3_spec(config: Config) -> DecoderSpec:
    """Resolve an OLMo 3 configuration."""
    config = config.get_text_config()
    return normed_after(config, windows=layer_windows(config), ropes=layer_ropes(config))


ARCHITECTURES = (like_llama("Olmo3", Olmo3Config, olmo3_spec, heads=decoder_heads("Olmo3", answers="")[:3]),)
