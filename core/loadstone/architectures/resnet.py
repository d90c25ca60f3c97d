"""ResNet: convolutions, running statistics, and integer counters.

Source: He et al. 2015, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures.records import Accent, Architecture, Head
from loadstone.architectures.specs import (
    MAX_SIZE,
    NEUTRAL,
    ClassifierSpec,
    activation,
    check_between,
    check_sizes,
    classifier_spec,
)
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class ResNetConfig(Config):
    """Configuration of ResNet. Keys and defaults are transformers'."""

    model_type = "resnet"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {**NEUTRAL, "text_config": ()}

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: list[int] = derived(lambda config: [256, 512, 1024, 2048])
    depths: list[int] = derived(lambda config: [3, 4, 6, 3])
    layer_type: str = "bottleneck"
    hidden_act: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False


NARROWING = 4
"""How many times fewer channels the middle of a bottleneck has."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """One residual block.

    Attributes:
        convolutions: Per convolution: channels in, channels out, side of the kernel, stride.
        shortcut: The same for the one beside them, or None: the input is added as it is.
    """

    convolutions: tuple[tuple[int, int, int, int], ...]
    shortcut: tuple[int, int, int, int] | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResNetSpec:
    """A stem and stages of residual blocks.

    Attributes:
        stem: The first convolution: channels in, channels out, side of the kernel, stride.
        stages: The blocks of each stage.
        out_channels: Channels of the last stage.
    """

    stem: tuple[int, int, int, int]
    stages: tuple[tuple[BlockSpec, ...], ...]
    activation: str
    out_channels: int
    classifier: ClassifierSpec


SIZES = ("num_channels", "embedding_size")


def resnet_spec(config: Config) -> ResNetSpec:
    """Resolve a ResNet configuration into the list of its convolutions."""
    check_sizes(config, *SIZES)
    check_between(config, "initializer_range")
    least = 1 if config.layer_type == "basic" else NARROWING
    if any(not least <= size <= MAX_SIZE for size in config.hidden_sizes):
        raise ConfigError(
            "hidden_sizes holds a number of channels that no stage can have",
            where="hidden_sizes",
            expected=f"{least} to {MAX_SIZE:,}",
            found=config.hidden_sizes,
            hint="correct config.json",
        )
    if len(config.hidden_sizes) != len(config.depths) or not config.depths:
        raise ConfigError(
            "hidden_sizes and depths must have one entry per stage",
            where="hidden_sizes, depths",
            found=f"{config.hidden_sizes} and {config.depths}",
        )
    if config.layer_type not in ("basic", "bottleneck"):
        raise ConfigError(
            f"unknown layer_type {config.layer_type!r}",
            where="layer_type",
            expected="'basic' or 'bottleneck'",
        )
    stages, channels = [], config.embedding_size
    for number, (size, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
        stride = 2 if number or config.downsample_in_first_stage else 1
        first = _block(config, channels, size, stride)
        stages.append((first, *(_block(config, size, size, 1) for _ in range(depth - 1))))
        channels = size
    return ResNetSpec(
        stem=(config.num_channels, config.embedding_size, 7, 2),
        stages=tuple(stages),
        activation=activation(config.hidden_act),
        out_channels=channels,
        classifier=classifier_spec(config, dropout=0.0),
    )


def _block(config: Config, before: int, after: int, stride: int) -> BlockSpec:
    shortcut = (before, after, 1, stride) if before != after or stride != 1 else None
    if config.layer_type == "basic":
        return BlockSpec(convolutions=((before, after, 3, stride), (after, after, 3, 1)), shortcut=shortcut)
    narrow = after // NARROWING
    first, second = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
    return BlockSpec(
        convolutions=((before, narrow, 1, first), (narrow, narrow, 3, second), (narrow, after, 1, 1)),
        shortcut=shortcut,
    )


PLACES = (
    "embedder.embedder",
    "encoder.stages.{}.layers.{}.layer.{}",
    "encoder.stages.{}.layers.{}.shortcut",
)
"""Where convolutions are."""


def _drawn() -> dict[str, str]:
    """Return how convolutions and running means start."""
    convolutions = {f"{place}.convolution.weight": "fan_out" for place in PLACES}
    return convolutions | {f"{place}.normalization.running_mean": "zeros" for place in PLACES}


ARCHITECTURES = (
    Architecture(
        model_type="resnet",
        family="resnet",
        config=ResNetConfig,
        spec=resnet_spec,
        heads=(
            Head(task="", class_name="ResNetModel", prefix=""),
            Head(
                task="ImageClassification",
                class_name="ResNetForImageClassification",
                prefix="resnet",
                new=(("classifier.1.weight", "classifier.1.bias"),),
            ),
        ),
        embedding="",
        drawn=_drawn(),
        counters=tuple(f"{place}.normalization.num_batches_tracked" for place in PLACES),
        spoken={"tensorflow": Accent(level="."), "flax": Accent()},
        no_split=("encoder.stages.{}.layers.{}",),
        layers=("depths",),
        sizes=(*SIZES, "hidden_sizes"),
    ),
)
