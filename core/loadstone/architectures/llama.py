"""Llama, and the decoders that share its shape.

Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Dubey et al. 2024, https://arxiv.org/abs/2407.21783.
"""

from __future__ import annotations

from typing import Any

from loadstone.architectures._records import Architecture, Head, Tie
from loadstone.architectures._rope import rope_spec
from loadstone.architectures._spec import DecoderSpec, activation, check_sizes, classifier_spec, divides
from loadstone.config import Config, derived


class LlamaConfig(Config):
    """Configuration of Llama 1, 2 and 3. Keys and defaults are transformers'."""

    model_type = "llama"

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = derived(lambda config: config.num_attention_heads)
    head_dim: int = derived(lambda config: divides(config, "hidden_size", "num_attention_heads"))
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int | None = 1
    tie_word_embeddings: bool = False
    rope_theta: float = derived(lambda config: (config.rope_parameters or {}).get("rope_theta", 10000.0))
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    classifier_dropout: float | None = None
    hidden_dropout: float | None = None


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


def decoder_spec(config: Config) -> DecoderSpec:
    """Resolve a Llama configuration."""
    config = config.get_text_config()
    check_sizes(config, *SIZES)
    divides(config, "num_attention_heads", "num_key_value_heads")
    dropout = next((d for d in (config.classifier_dropout, config.hidden_dropout) if d is not None), 0.1)
    return DecoderSpec(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        activation=activation(config.hidden_act),
        norm_eps=config.rms_norm_eps,
        rope=rope_spec(config, head_dim=config.head_dim),
        windows=(None,) * config.num_hidden_layers,
        attention_scale=config.head_dim**-0.5,
        attention_bias=config.attention_bias,
        output_bias=config.attention_bias,
        mlp_bias=config.mlp_bias,
        attention_dropout=config.attention_dropout,
        initializer_range=config.initializer_range,
        pad_token_id=config.pad_token_id,
        classifier=classifier_spec(config, dropout=dropout),
    )


def decoder_heads(stem: str) -> tuple[Head, ...]:
    """Return the model classes of a decoder whose class names begin with `stem`."""
    embedding = Tie(name="lm_head.weight", to="model.embed_tokens.weight")
    score, outputs = ("score.weight", "score.bias"), ("qa_outputs.weight", "qa_outputs.bias")
    return (
        Head(task="", class_name=f"{stem}Model", prefix=""),
        Head(
            task="CausalLM",
            class_name=f"{stem}ForCausalLM",
            prefix="model",
            new=(("lm_head.weight",),),
            ties=(embedding,),
            output="lm_head",
        ),
        Head(
            task="SequenceClassification",
            class_name=f"{stem}ForSequenceClassification",
            prefix="model",
            new=(score[:1],),
        ),
        Head(
            task="TokenClassification",
            class_name=f"{stem}ForTokenClassification",
            prefix="model",
            new=(score,),
        ),
        Head(
            task="QuestionAnswering",
            class_name=f"{stem}ForQuestionAnswering",
            prefix="transformer",
            new=(outputs,),
        ),
    )


PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
BIASES = tuple(f"layers.{{}}.{module}.bias" for module in PROJECTIONS + FEED_FORWARD)

ARCHITECTURES = (
    Architecture(
        model_type="llama",
        family="llama",
        config=LlamaConfig,
        spec=decoder_spec,
        heads=decoder_heads("Llama"),
        embedding="embed_tokens",
        optional=BIASES,
        ignored=("layers.{}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
        no_split=("LlamaDecoderLayer",),
    ),
)
