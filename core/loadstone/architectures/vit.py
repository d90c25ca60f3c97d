"""ViT. Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures.names import AttentionNames, EmbeddingNames, FeedForwardNames, Names
from loadstone.architectures.parts import (
    AttentionSpec,
    FeedForwardSpec,
    LayerSpec,
    NormSpec,
    PatchSpec,
    PoolerSpec,
)
from loadstone.architectures.records import Accent, Architecture, Head
from loadstone.architectures.specs import (
    MAX_SIZE,
    NEUTRAL,
    UNTIED_STATES,
    StackSpec,
    activation,
    check_between,
    check_rates,
    check_sizes,
    classifier_spec,
    divides,
    refuse_causal,
)
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class ViTConfig(Config):
    """Configuration of ViT. Keys and defaults are transformers'."""

    model_type = "vit"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {**NEUTRAL, **UNTIED_STATES, "text_config": ()}

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    image_size: int | list[int] = 224
    patch_size: int | list[int] = 16
    num_channels: int = 3
    head_dim: int | None = None
    qkv_bias: bool = True
    encoder_stride: int = 16
    pooler_output_size: int = derived(lambda config: config.hidden_size)
    pooler_act: str = "tanh"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ViTSpec(StackSpec):
    """An encoder of image patches.

    Attributes:
        embeddings: What it reads.
        pooler: What makes one vector of an image.
    """

    embeddings: PatchSpec
    pooler: PoolerSpec


NAMES = Names(
    embeddings=EmbeddingNames(
        patches="embeddings.patch_embeddings.projection",
        first="embeddings.cls_token",
        positions="embeddings.position_embeddings",
        dropout="embeddings.dropout",
    ),
    layers="encoder.layer",
    attention=AttentionNames(
        query="attention.attention.query",
        key="attention.attention.key",
        value="attention.attention.value",
        output="attention.output.dense",
        dropout="attention.output.dropout",
        before="layernorm_before",
    ),
    feed_forward=FeedForwardNames(
        up="intermediate.dense", down="output.dense", dropout="output.dropout", before="layernorm_after"
    ),
    norm="layernorm",
    norms_last=True,
    pooler="pooler.dense",
)
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "pooler_output_size",
)


def vit_spec(config: Config) -> ViTSpec:
    """Resolve a ViT configuration."""
    check_sizes(config, *SIZES)
    head_dim = divides(config, "hidden_size", "num_attention_heads")
    if config.head_dim not in (None, head_dim):
        raise ConfigError(
            "ViT whose heads do not share the hidden size is not supported",
            where="head_dim",
            expected=f"{head_dim}, or no such key",
            found=repr(config.head_dim),
            hint="load it with transformers",
        )
    check_rates(config, "hidden_dropout_prob", "attention_probs_dropout_prob")
    check_between(config, "layer_norm_eps", "initializer_range")
    refuse_causal(config)
    image_size, patch_size = _pair(config, "image_size"), _pair(config, "patch_size")
    if any(side < patch for side, patch in zip(image_size, patch_size, strict=True)):
        raise ConfigError(
            "an image is smaller than a patch",
            where="image_size, patch_size",
            found=f"{image_size} and {patch_size}",
            hint="correct config.json",
        )
    norm = NormSpec(kind="layer", eps=config.layer_norm_eps)
    layer = LayerSpec(
        attention=AttentionSpec(
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_attention_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            bias=config.qkv_bias,
            dropout=config.attention_probs_dropout_prob,
            output_dropout=config.hidden_dropout_prob,
        ),
        feed_forward=FeedForwardSpec(
            size=config.intermediate_size,
            activation=activation(config.hidden_act),
            dropout=config.hidden_dropout_prob,
        ),
        norm=norm,
    )
    return ViTSpec(
        hidden_size=config.hidden_size,
        layers=(layer,) * config.num_hidden_layers,
        norm=norm,
        names=NAMES,
        embeddings=PatchSpec(
            image_size=image_size,
            patch_size=patch_size,
            num_channels=config.num_channels,
            dropout=config.hidden_dropout_prob,
        ),
        pooler=PoolerSpec(size=config.pooler_output_size, activation=activation(config.pooler_act)),
        classifier=classifier_spec(config, dropout=0.0),
    )


def _pair(config: Config, name: str) -> tuple[int, int]:
    value = getattr(config, name)
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1 or max(pair) > MAX_SIZE:
        raise ConfigError(
            f"{name} is not a size", where=name, expected="one number, or height and width", found=value
        )
    return pair


POOLER = ("pooler.dense.weight", "pooler.dense.bias")
CLASSIFIER = ("classifier.weight", "classifier.bias")

ARCHITECTURES = (
    Architecture(
        model_type="vit",
        family="vit",
        config=ViTConfig,
        spec=vit_spec,
        heads=(
            Head(task="", class_name="ViTModel", prefix="", new=(POOLER,), options=("add_pooling_layer",)),
            Head(
                task="ImageClassification",
                class_name="ViTForImageClassification",
                prefix="vit",
                new=(CLASSIFIER,),
            ),
        ),
        embedding="",
        optional=tuple(
            f"encoder.layer.{{}}.attention.attention.{name}.bias" for name in ("query", "key", "value")
        ),
        spoken={"tensorflow": Accent(), "flax": Accent()},
        no_split=("encoder.layer.{}", "embeddings"),
        sizes=SIZES,
    ),
)
