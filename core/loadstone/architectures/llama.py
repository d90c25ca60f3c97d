"""Llama, and the decoders that share its shape: Mistral, Gemma, Qwen.

Sources: Llama: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Dubey et al. 2024, https://arxiv.org/abs/2407.21783.
Mistral: Jiang et al. 2023, https://arxiv.org/abs/2310.06825. Gemma: https://arxiv.org/abs/2403.08295; Gemma 2:
https://arxiv.org/abs/2408.00118. Qwen 2: https://arxiv.org/abs/2407.10671; Qwen 3: https://arxiv.org/abs/2505.09388.
"""

from __future__ import annotations

from typing import Any

from loadstone.architectures._records import Architecture, Head, Tie
from loadstone.architectures._rope import rope_parameters, rope_spec
from loadstone.architectures._spec import DecoderSpec, activation, check_sizes, classifier_spec, divides
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class DecoderConfig(Config):
    """What the configurations of all these decoders share. Keys and defaults are transformers'."""

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
    tie_word_embeddings: bool = False
    rope_theta: float = derived(
        lambda config: (config.held("rope_parameters") or {}).get("rope_theta", 10000.0)
    )
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = derived(rope_parameters)
    attention_dropout: float = 0.0
    classifier_dropout: float | None = None
    hidden_dropout: float | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key; what transformers 4 calls `rope_theta` and `rope_scaling` goes into `rope_parameters` where they are."""
        held = self._values.get("rope_parameters")
        if held is None or name not in ("rope_theta", "rope_scaling"):
            super().__setattr__(name, value)
            return
        checked = self._checked(name, value)
        base = {"rope_theta": self.rope_theta}
        changed = {**held, name: checked} if name == "rope_theta" else {**base, **(checked or {})}
        super().__setattr__("rope_parameters", changed)
        self._values.pop(name, None)


class LlamaConfig(DecoderConfig):
    """Configuration of Llama 1, 2 and 3."""

    model_type = "llama"

    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int | None = 1
    attention_bias: bool = False
    mlp_bias: bool = False


class MistralConfig(DecoderConfig):
    """Configuration of Mistral."""

    model_type = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int = 8
    max_position_embeddings: int = 4096 * 32
    sliding_window: int | None = 4096
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


class GemmaConfig(DecoderConfig):
    """Configuration of Gemma."""

    model_type = "gemma"

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    hidden_activation: str | None = None
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

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    hidden_activation: str | None = "gelu_pytorch_tanh"
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
    num_key_value_heads: int = 32
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


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)
SLIDING, FULL = "sliding_attention", "full_attention"


def alternating(num_layers: int) -> list[str]:
    """Return layer types that alternate, a windowed one first."""
    return [FULL if layer % 2 else SLIDING for layer in range(num_layers)]


def windowed_after(config: Config, first: int) -> list[str]:
    """Return layer types that are windowed from layer `first` on, where windows are used at all."""
    used = config.use_sliding_window and config.sliding_window is not None
    return [SLIDING if used and layer >= first else FULL for layer in range(config.num_hidden_layers)]


def decoder_spec(config: Config, **differences: Any) -> DecoderSpec:
    """Resolve a configuration as Llama's are; `differences` are the fields of the spec that a family has otherwise."""
    check_sizes(config, *SIZES)
    divides(config, "num_attention_heads", "num_key_value_heads")
    dropout = next((d for d in (config.classifier_dropout, config.hidden_dropout) if d is not None), 0.1)
    fields: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "activation": activation(config.hidden_act),
        "norm_eps": config.rms_norm_eps,
        "rope": rope_spec(config, head_dim=config.head_dim),
        "windows": (None,) * config.num_hidden_layers,
        "attention_scale": config.head_dim**-0.5,
        "attention_bias": False,
        "output_bias": False,
        "mlp_bias": False,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer_range,
        "pad_token_id": config.pad_token_id,
        "classifier": classifier_spec(config, dropout=dropout),
    }
    return DecoderSpec(**(fields | differences))


def llama_spec(config: Config) -> DecoderSpec:
    """Resolve a Llama configuration."""
    config = config.get_text_config()
    bias = config.attention_bias
    return decoder_spec(config, attention_bias=bias, output_bias=bias, mlp_bias=config.mlp_bias)


def mistral_spec(config: Config) -> DecoderSpec:
    """Resolve a Mistral configuration: every layer attends within one window."""
    config = config.get_text_config()
    return decoder_spec(config, windows=(config.sliding_window,) * config.num_hidden_layers)


def gemma_spec(config: Config, **differences: Any) -> DecoderSpec:
    """Resolve a Gemma configuration: scaled embeddings, norms that multiply by one plus their weight."""
    config = config.get_text_config()
    if config.use_bidirectional_attention:
        raise ConfigError(
            "Gemma with use_bidirectional_attention is not supported", where="use_bidirectional_attention"
        )
    fields: dict[str, Any] = {
        "activation": activation(config.hidden_activation or config.hidden_act),
        "attention_bias": config.attention_bias,
        "output_bias": config.attention_bias,
        "norm_offset": True,
        "embedding_scale": config.hidden_size**0.5,
    }
    return decoder_spec(config, **(fields | differences))


def gemma2_spec(config: Config) -> DecoderSpec:
    """Resolve a Gemma 2 configuration: Gemma with soft caps, norms around each block, and every other layer windowed."""
    config = config.get_text_config()
    return gemma_spec(
        config,
        windows=_windows(config),
        attention_scale=config.query_pre_attn_scalar**-0.5,
        sandwich_norms=True,
        attention_softcap=config.attn_logit_softcapping,
        logit_softcap=config.final_logit_softcapping,
    )


def qwen2_spec(config: Config) -> DecoderSpec:
    """Resolve a Qwen 2 configuration: biases on queries, keys and values alone."""
    config = config.get_text_config()
    head_dim = divides(config, "hidden_size", "num_attention_heads")
    return decoder_spec(config, head_dim=head_dim, windows=_windows(config), attention_bias=True)


def qwen3_spec(config: Config) -> DecoderSpec:
    """Resolve a Qwen 3 configuration: queries and keys are normalised."""
    config = config.get_text_config()
    bias = config.attention_bias
    return decoder_spec(config, windows=_windows(config), attention_bias=bias, output_bias=bias, qk_norm=True)


def _windows(config: Config) -> tuple[int | None, ...]:
    """Return each layer's window, from its type.

    Raises:
        ConfigError: If there is not one type per layer, or an unknown one.
    """
    types = config.layer_types
    if len(types) != config.num_hidden_layers or not {SLIDING, FULL}.issuperset(types):
        raise ConfigError(
            "layer_types does not fit the model",
            where="layer_types",
            expected=f"{config.num_hidden_layers} times {SLIDING!r} or {FULL!r}",
            found=types,
        )
    return tuple(config.sliding_window if kind == SLIDING else None for kind in types)


def decoder_heads(stem: str, *, answers: bool = True) -> tuple[Head, ...]:
    """Return the model classes of a decoder whose class names begin with `stem`.

    Args:
        stem: E.g. "Llama".
        answers: Whether there is a head for question answering.
    """
    embedding = Tie(name="lm_head.weight", to="model.embed_tokens.weight")
    score, outputs = ("score.weight", "score.bias"), ("qa_outputs.weight", "qa_outputs.bias")
    qa_prefix = "model" if stem == "Mistral" else "transformer"
    heads = (
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
            prefix=qa_prefix,
            new=(outputs,),
        ),
    )
    return heads if answers else heads[:-1]


PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
BIASES = tuple(f"layers.{{}}.{module}.bias" for module in PROJECTIONS + FEED_FORWARD)


def _architecture(stem: str, config: type[Config], spec: Any, **more: Any) -> Architecture:
    return Architecture(
        model_type=config.model_type,
        family="llama",
        config=config,
        spec=spec,
        heads=decoder_heads(stem, answers=not stem.startswith("Gemma")),
        embedding="embed_tokens",
        optional=BIASES,
        ignored=("layers.{}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
        no_split=("LlamaDecoderLayer",),
        **more,
    )


# A norm that multiplies by one plus its weight starts at zero.
GEMMA_NORMS = {
    "layers.{}.input_layernorm.weight": "zeros",
    "layers.{}.post_attention_layernorm.weight": "zeros",
    "layers.{}.pre_feedforward_layernorm.weight": "zeros",
    "layers.{}.post_feedforward_layernorm.weight": "zeros",
    "norm.weight": "zeros",
}

ARCHITECTURES = (
    _architecture("Llama", LlamaConfig, llama_spec),
    _architecture("Mistral", MistralConfig, mistral_spec),
    _architecture("Gemma", GemmaConfig, gemma_spec, drawn=GEMMA_NORMS),
    _architecture("Gemma2", Gemma2Config, gemma2_spec, drawn=GEMMA_NORMS),
    _architecture("Qwen2", Qwen2Config, qwen2_spec),
    _architecture("Qwen3", Qwen3Config, qwen3_spec),
)
