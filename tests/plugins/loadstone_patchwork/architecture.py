"""Patchwork: experts that are stored one by one and computed as a stack, and queries, keys and values stored as one."""

from __future__ import annotations

import dataclasses

from loadstone.architectures import Architecture, Arrangement, Head, Split
from loadstone.checkpoint.recipe import Stack, Transpose
from loadstone.config import Config


class PatchworkConfig(Config):
    """Configuration of Patchwork."""

    model_type = "patchwork"

    vocab_size: int = 11
    hidden_size: int = 6
    expert_size: int = 5
    num_experts: int = 3
    num_hidden_layers: int = 2
    key_size: int = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PatchworkSpec:
    """What the models of every framework read."""

    vocab_size: int
    hidden_size: int
    expert_size: int
    num_experts: int
    num_layers: int
    key_size: int


def patchwork_spec(config: Config) -> PatchworkSpec:
    """Resolve a Patchwork configuration."""
    return PatchworkSpec(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        expert_size=config.expert_size,
        num_experts=config.num_experts,
        num_layers=config.num_hidden_layers,
        key_size=config.key_size,
    )


PACKAGE = "loadstone_patchwork"

PATCHWORK = Architecture(
    model_type="patchwork",
    family="patchwork",
    config=PatchworkConfig,
    spec=patchwork_spec,
    heads=(Head(task="", class_name="PatchworkModel", prefix=""),),
    embedding="tokens",
    arranged=(
        Arrangement(
            stored=("layers.{}.experts.{*}.up.weight",),
            parameters=("layers.{}.experts.up",),
            steps=(Transpose((1, 0)), Stack(0)),
        ),
        Arrangement(
            stored=("layers.{}.attention.qkv.weight",),
            parameters=tuple(f"layers.{{}}.attention.{name}.weight" for name in "qkv"),
            steps=(Split(0),),
        ),
    ),
    modules={name: f"{PACKAGE}.in_{name}" for name in ("torch", "flax", "tensorflow")},
)
