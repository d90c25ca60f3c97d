"""What decoders like Llama share: their configuration, the names of their parts, their spec and their classes."""

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
from loadstone.architectures.records import Accent, Architecture, Head, Tie
from loadstone.architectures.rope import RopeSpec, rope_block, rope_parameters, rope_spec
from loadstone.architectures.specs import (
    NEUTRAL,
    NEUTRAL_CACHE,
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


def decoder_spec(
    config: Config,
    *,
    names: Names,
    windows: Iterable[int | None] | None = None,
    ropes: Iterable[RopeSpec | None] | None = None,
    attention: Mapping[str, Any] | None = None,
    feed_forward: Mapping[str, Any] | None = None,
    norm: Mapping[str, Any] | None = None,
    embeddings: Mapping[str, Any] | None = None,
    layer: Mapping[str, Any] | None = None,
    **logits: float | None,
) -> DecoderSpec:
    """Resolve a configuration as Llama's are; the mappings are the fields of a part that a family has otherwise.

    Args:
        config: The configuration.
        names: Where checkpoints have the parts.
        windows: Each layer's window; None: no layer has one.
        ropes: Each layer's rope; None: all have the configuration's.
        attention: Fields of `AttentionSpec`.
        feed_forward: Fields of `FeedForwardSpec`.
        norm: Fields of `NormSpec`.
        embeddings: Fields of `EmbeddingSpec`.
        layer: Fields of `LayerSpec`.
        **logits: `logit_scale` and `logit_softcap` of `DecoderSpec`.
    """
    check_sizes(config, *SIZES)
    divides(config, "num_attention_heads", "num_key_value_heads")
    check_rates(config, "attention_dropout", "classifier_dropout", "hidden_dropout")
    check_between(config, "rms_norm_eps", "initializer_range")
    check_pad_token(config)
    dropout = next((d for d in (config.classifier_dropout, config.hidden_dropout) if d is not None), 0.1)
    normed = NormSpec(**{"kind": "rms", "eps": config.rms_norm_eps, **(norm or {})})
    like = LayerSpec(
        attention=AttentionSpec(**_attention(config) | dict(attention or {})),
        feed_forward=FeedForwardSpec(**_feed_forward(config) | dict(feed_forward or {})),
        norm=normed,
        **(layer or {}),
    )
    if ropes is None:
        ropes = (rope_spec(config, head_dim=config.head_dim),) * config.num_hidden_layers
    looked_up = {"vocab_size": config.vocab_size, "pad_token_id": config.pad_token_id}
    return DecoderSpec(
        hidden_size=config.hidden_size,
        layers=each(like, windows or (None,) * config.num_hidden_layers, ropes),
        norm=normed,
        names=names,
        embeddings=EmbeddingSpec(**looked_up | dict(embeddings or {})),
        causal=is_causal(config),
        classifier=classifier_spec(config, dropout=dropout),
        **logits,  # type: ignore[arg-type]
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
    }


def _feed_forward(config: Config) -> dict[str, Any]:
    """Return the fields of Llama's feed-forward."""
    return {"size": config.intermediate_size, "activation": activation(config.hidden_act), "bias": False}


def each(
    layer: LayerSpec, windows: Iterable[int | None], ropes: Iterable[RopeSpec | None]
) -> tuple[LayerSpec, ...]:
    """Return a layer for each window and rope; those that have the same are one object."""

    @functools.cache
    def of(window: int | None, rope: RopeSpec | None) -> LayerSpec:
        attention = dataclasses.replace(layer.attention, window=window, rope=rope)
        return dataclasses.replace(layer, attention=attention)

    return tuple(of(window, rope) for window, rope in zip(windows, ropes, strict=True))


def attention_biases(config: Config) -> dict[str, Any]:
    """Return the fields of `AttentionSpec` where one key speaks of all projections."""
    return {"bias": config.attention_bias, "output_bias": config.attention_bias}


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


PLAIN_NORMS = Accent(
    leaves=dict.fromkeys(
        ("layers.{}.input_layernorm.weight", "layers.{}.post_attention_layernorm.weight", "norm.weight"),
        "weight",
    )
)
"""How transformers' Flax classes of Llama and its kin speak: they keep the weights of norms themselves."""


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
