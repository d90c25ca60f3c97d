"""Patchwork in Flax."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_flax.layers import Embedding, Linear, parameter
from loadstone_flax.modeling import PreTrainedModel
from loadstone_patchwork.architecture import PATCHWORK, PatchworkSpec


class Experts(nnx.Module):
    """A stack of linear maps, each [in, out]."""

    def __init__(self, spec: PatchworkSpec) -> None:
        self.up = parameter(spec.num_experts, spec.hidden_size, spec.expert_size)


class Attention(nnx.Module):
    """Three projections."""

    def __init__(self, spec: PatchworkSpec) -> None:
        self.q = Linear(spec.hidden_size, spec.hidden_size, bias=False)
        self.k = Linear(spec.hidden_size, spec.key_size, bias=False)
        self.v = Linear(spec.hidden_size, spec.key_size, bias=False)


class Layer(nnx.Module):
    """One block."""

    def __init__(self, spec: PatchworkSpec) -> None:
        self.experts = Experts(spec)
        self.attention = Attention(spec)

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, C)."""
        x = x + jnp.einsum("btc,eci->bt", x, self.experts.up[...])[..., None]
        scores = self.attention.k(x).sum(-1) - self.attention.v(x).sum(-1)
        return x + self.attention.q(x) * scores[..., None]


class FlaxPatchworkModel(PreTrainedModel):
    """Token ids to hidden states."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = Embedding(self.spec.vocab_size, self.spec.hidden_size)
        self.layers = nnx.List([Layer(self.spec) for _ in range(self.spec.num_layers)])

    def forward(self, input_ids: Array) -> Any:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        x = self.tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.result(True, last_hidden_state=x)


add_classes(globals(), [PATCHWORK], prefix="Flax")
