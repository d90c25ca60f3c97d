"""Llama, and the decoders that share its shape: Mistral, Gemma, Qwen.

Sources: Llama: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Dubey et al. 2024, https://arxiv.org/abs/2407.21783.
Mistral: Jiang et al. 2023, https://arxiv.org/abs/2310.06825. Gemma: https://arxiv.org/abs/2403.08295; Gemma 2:
https://arxiv.org/abs/2408.00118. Qwen 2: https://arxiv.org/abs/2407.10671; Qwen 3: https://arxiv.org/abs/2505.09388.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from loadstone.architectures.names import AttentionNames, EmbeddingNames, FeedForwardNames, Names
from loadstone.architectures.parts import (
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LayerSpec,
    NormSpec,
)
from loadstone.architectures.records import Architecture, Head, Tie
from loadstone.architectures.rope import rope_block, rope_parameters, rope_spec
from loadstone.architectures.specs import (
    NEUTRAL,
    NEUTRAL_CACHE,
    NEUTRAL_WINDOWS,
    TIED_STATES,
    DecoderSpec,
    activation,
    check_between,
    check_pad_token,
    check_rates,
    check_sizes,
    classifier_spec,
    divides,
    is_causal,
)
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class DecoderConfig(Config):
    """What the configurations of all these decoders share. Keys and defaults are transformers'."""

    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **NEUTRAL,
        **TIED_STATES,
        **NEUTRAL_CACHE,
        "token_classification_bias": (True,),
    }
    # The rope, and its base, where the configuration does not speak of them.
    default_rope: ClassVar[Mapping[str, Any]] = {}
    default_theta: ClassVar[float] = 10000.0

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
    rope_theta: float = derived(lambda config: rope_block(config).get("rope_theta", config.default_theta))
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = derived(rope_parameters)
    attention_dropout: float = 0.0
    classifier_dropout: float | None = None
    hidden_dropout: float | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key; what transformers 4 calls `rope_theta` and `rope_scaling` goes into `rope_parameters` where they are.

        What is set holds, whatever the file says in the other spelling.
        """
        if name == "rope_theta":
            block = "rope_scaling" if self._values.get("rope_scaling") else "rope_parameters"
            held = self._values.get(block)
            if held is not None and (block == "rope_parameters" or name in held):
                name, value = block, {**held, name: self._checked(name, value)}
                self._values.pop("rope_theta", None)
        elif name == "rope_scaling" and self._values.get("rope_parameters") is not None:
            name, value = (
                "rope_parameters",
                {"rope_theta": self.rope_theta, **(self._checked(name, value) or {})},
            )
            self._values.pop("rope_theta", None)
        super().__setattr__(name, value)
        if name == "rope_parameters":
            self._values.pop("rope_scaling", None)


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


LLAMA = Names(
    embeddings=EmbeddingNames(words="embed_tokens"),
    layers="layers",
    attention=AttentionNames(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        before="input_layernorm",
    ),
    feed_forward=FeedForwardNames(
        gate="mlp.gate_proj",
        up="mlp.up_proj",
        down="mlp.down_proj",
        before="post_attention_layernorm",
    ),
    norm="norm",
    classifier="score",
    norms_last=True,
)
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


def key_value_heads(config: Config, absent: int) -> int:
    """Return `absent` where a configuration does not speak of key-value heads; null means as many as there are heads."""
    said = "num_key_value_heads" in set(config)
    return int(config.num_attention_heads) if said else absent


def all_alike(config: Config) -> list[str]:
    """Return layer types that are all windowed where there is a window, else all full."""
    return [FULL if config.sliding_window is None else SLIDING] * config.num_hidden_layers


def alternating(num_layers: int) -> list[str]:
    """Return layer types that alternate, a windowed one first."""
    return [FULL if layer % 2 else SLIDING for layer in range(num_layers)]


def windowed_after(config: Config, first: int) -> list[str]:
    """Return layer types that are windowed from layer `first` on, where windows are used at all."""
    used = window_of(config) is not None
    return [SLIDING if used and layer >= first else FULL for layer in range(config.num_hidden_layers)]


def decoder_spec(
    config: Config,
    *,
    names: Names,
    windows: Iterable[int | None] | None = None,
    attention: Mapping[str, Any] | None = None,
    feed_forward: Mapping[str, Any] | None = None,
    norm: Mapping[str, Any] | None = None,
    embeddings: Mapping[str, Any] | None = None,
    logit_softcap: float | None = None,
) -> DecoderSpec:
    """Resolve a configuration as Llama's are; the mappings are the fields of a part that a family has otherwise.

    Args:
        config: The configuration.
        names: Where checkpoints have the parts.
        windows: Each layer's window; None: no layer has one.
        attention: Fields of `AttentionSpec`.
        feed_forward: Fields of `FeedForwardSpec`.
        norm: Fields of `NormSpec`.
        embeddings: Fields of `EmbeddingSpec`.
        logit_softcap: Bounds the logits.
    """
    check_sizes(config, *SIZES)
    divides(config, "num_attention_heads", "num_key_value_heads")
    check_rates(config, "attention_dropout", "classifier_dropout", "hidden_dropout")
    check_between(config, "rms_norm_eps", "initializer_range")
    check_pad_token(config)
    dropout = next((d for d in (config.classifier_dropout, config.hidden_dropout) if d is not None), 0.1)
    normed = NormSpec(**{"kind": "rms", "eps": config.rms_norm_eps, **(norm or {})})
    layer = LayerSpec(
        attention=AttentionSpec(**_attention(config) | dict(attention or {})),
        feed_forward=FeedForwardSpec(**_feed_forward(config) | dict(feed_forward or {})),
        norm=normed,
    )
    looked_up = {"vocab_size": config.vocab_size, "pad_token_id": config.pad_token_id}
    return DecoderSpec(
        hidden_size=config.hidden_size,
        layers=windowed(layer, windows or (None,) * config.num_hidden_layers),
        norm=normed,
        names=names,
        embeddings=EmbeddingSpec(**looked_up | dict(embeddings or {})),
        causal=is_causal(config),
        logit_softcap=logit_softcap,
        classifier=classifier_spec(config, dropout=dropout),
    )


def _attention(config: Config) -> dict[str, Any]:
    """Return the fields of Llama's attention."""
    return {
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "scale": config.head_dim**-0.5,
        "bias": False,
        "output_bias": False,
        "dropout": config.attention_dropout,
        "rope": rope_spec(config, head_dim=config.head_dim),
    }


def _feed_forward(config: Config) -> dict[str, Any]:
    """Return the fields of Llama's feed-forward."""
    return {"size": config.intermediate_size, "activation": activation(config.hidden_act), "bias": False}


def windowed(layer: LayerSpec, windows: Iterable[int | None]) -> tuple[LayerSpec, ...]:
    """Return a layer for each window; those of one window are one object."""

    @functools.cache
    def with_window(window: int | None) -> LayerSpec:
        return dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, window=window))

    return tuple(with_window(window) for window in windows)


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


def attention_biases(config: Config) -> dict[str, Any]:
    """Return the fields of `AttentionSpec` where one key speaks of all projections."""
    return {"bias": config.attention_bias, "output_bias": config.attention_bias}


def layer_windows(config: Config) -> tuple[int | None, ...]:
    """Return each layer's window, from its type.

    Raises:
        ConfigError: If there is not one type per layer, or an unknown one, or a windowed layer and no window.
    """
    types, window = config.layer_types, window_of(config)
    if len(types) != config.num_hidden_layers or not {SLIDING, FULL}.issuperset(types):
        raise ConfigError(
            "layer_types does not fit the model",
            where="layer_types",
            expected=f"{config.num_hidden_layers} times {SLIDING!r} or {FULL!r}",
            found=types,
        )
    if SLIDING in types and (window is None or window < 1):
        raise ConfigError(
            "there are windowed layers, and no window that a layer can have",
            where="sliding_window",
            expected="a number of tokens above 0",
            found="use_sliding_window=False" if window is None and config.sliding_window else window,
            hint="correct sliding_window or layer_types in config.json",
        )
    return tuple(window if kind == SLIDING else None for kind in types)


def window_of(config: Config) -> int | None:
    """Return how many tokens back a windowed layer attends; None where the configuration turns windows off."""
    used = not config.knows("use_sliding_window") or config.use_sliding_window
    window: int | None = config.sliding_window if used else None
    return window


def decoder_heads(stem: str, *, answers: str = "transformer") -> tuple[Head, ...]:
    """Return the model classes of a decoder whose class names begin with `stem`.

    Args:
        stem: E.g. "Llama".
        answers: Where the base model sits in the one for question answering; "": there is none.
    """
    embedding = Tie(name="lm_head.weight", to="model.embed_tokens.weight")
    score, outputs = ("score.weight", "score.bias"), ("qa_outputs.weight", "qa_outputs.bias")
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
            prefix=answers,
            new=(outputs,),
        ),
    )
    return heads if answers else heads[:-1]


def biases(names: Names) -> tuple[str, ...]:
    """Return patterns of the biases that a decoder may have."""
    attention, feed_forward = names.attention, names.feed_forward
    projections = (attention.query, attention.key, attention.value, attention.qkv, attention.output)
    widened = (feed_forward.gate, feed_forward.up, feed_forward.gate_up, feed_forward.down)
    return tuple(f"{name}.bias" for name in names.in_layers(*projections, *widened))


def norms_of(names: Names) -> tuple[str, ...]:
    """Return patterns of the weights of a decoder's norms over the hidden size."""
    parts = (names.attention, names.feed_forward)
    within = names.in_layers(*(name for part in parts for name in (part.before, part.after)))
    return tuple(f"{name}.weight" for name in (*within, names.norm))


def like_llama(
    stem: str, config: type[Config], spec: Any, *, answers: str = "transformer", **more: Any
) -> Architecture:
    """Return the architecture of a decoder that has Llama's classes.

    Args:
        stem: What its class names begin with.
        config: Its configuration class.
        spec: Resolves a configuration.
        answers: See `decoder_heads`.
        **more: Fields of `Architecture` that it has otherwise.
    """
    fields: dict[str, Any] = {"heads": decoder_heads(stem, answers=answers), **more}
    return Architecture(
        model_type=config.model_type,
        family="llama",
        config=config,
        spec=spec,
        embedding="embed_tokens",
        optional=biases(LLAMA),
        ignored=("layers.{}.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
        no_split=("layers.{}",),
        sizes=SIZES,
        **fields,
    )


# A norm that multiplies by one plus its weight starts at zero.
GEMMA_NORMS = dict.fromkeys(norms_of(LLAMA) + norms_of(GEMMA2), "zeros")

ARCHITECTURES = (
    like_llama("Llama", LlamaConfig, llama_spec),
    like_llama("Mistral", MistralConfig, mistral_spec, answers="model"),
    like_llama("Gemma", GemmaConfig, gemma_spec, answers="", drawn=GEMMA_NORMS),
    like_llama("Gemma2", Gemma2Config, gemma2_spec, answers="", drawn=GEMMA_NORMS),
    like_llama("Qwen2", Qwen2Config, qwen2_spec),
    like_llama("Qwen3", Qwen3Config, qwen3_spec),
)
