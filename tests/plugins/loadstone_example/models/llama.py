"""Llama's names and shapes in plain numpy: it loads, saves and says what does not fit, and cannot compute yet."""

from __future__ import annotations

from typing import Any

from loadstone.config import Config
from loadstone.outputs import ModelOutput
from loadstone_example.modeling import PlainModel


class PlainLlamaModel(PlainModel):
    """The body."""

    def __init__(self, config: Config, prefix: str = "") -> None:
        super().__init__(config)
        size, inner = config.hidden_size, config.intermediate_size
        width = config.head_dim or size // config.num_attention_heads
        queries, keys = (
            config.num_attention_heads * width,
            (config.num_key_value_heads or config.num_attention_heads) * width,
        )
        self.declare(f"{prefix}embed_tokens.weight", (config.vocab_size, size))
        for layer in range(config.num_hidden_layers):
            at = f"{prefix}layers.{layer}."
            for name, rows, columns in (
                ("self_attn.q_proj", queries, size),
                ("self_attn.k_proj", keys, size),
                ("self_attn.v_proj", keys, size),
                ("self_attn.o_proj", size, queries),
                ("mlp.gate_proj", inner, size),
                ("mlp.up_proj", inner, size),
                ("mlp.down_proj", size, inner),
            ):
                self.declare(f"{at}{name}.weight", (rows, columns))
                if config.attention_bias if "attn" in name else config.mlp_bias:
                    self.declare(f"{at}{name}.bias", (rows,))
            for name in ("input_layernorm", "post_attention_layernorm"):
                self.declare(f"{at}{name}.weight", (size,))
        self.declare(f"{prefix}norm.weight", (size,))

    def __call__(self, input_ids: Any, **more: Any) -> ModelOutput:
        """Compute."""
        raise NotImplementedError("plain numpy has no rotary attention yet")


class PlainLlamaForCausalLM(PlainLlamaModel):
    """With its output layer."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, prefix="model.")
        self.declare("lm_head.weight", (config.vocab_size, config.hidden_size))
