"""Patchwork in TensorFlow."""

from __future__ import annotations

from typing import Any

from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_patchwork.architecture import PATCHWORK, PatchworkSpec
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Embedding, Layer, Linear, parameter
from loadstone_tensorflow.modeling import PreTrainedModel


class Experts(Layer):
    """A stack of linear maps, each [in, out]."""

    def __init__(self, spec: PatchworkSpec) -> None:
        super().__init__()
        self.up = parameter(spec.num_experts, spec.hidden_size, spec.expert_size)


class Attention(Layer):
    """Three projections."""

    def __init__(self, spec: PatchworkSpec) -> None:
        super().__init__()
        self.q = Linear(spec.hidden_size, spec.hidden_size, bias=False)
        self.k = Linear(spec.hidden_size, spec.key_size, bias=False)
        self.v = Linear(spec.hidden_size, spec.key_size, bias=False)


class Block(Layer):
    """One block."""

    def __init__(self, spec: PatchworkSpec) -> None:
        super().__init__()
        self.experts = Experts(spec)
        self.attention = Attention(spec)

    def call(self, x: Any) -> Any:
        """(B, T, C) -> (B, T, C)."""
        x = x + tf.einsum("btc,eci->bt", x, self.experts.up.value)[..., None]
        scores = tf.reduce_sum(self.attention.k(x), -1) - tf.reduce_sum(self.attention.v(x), -1)
        return x + self.attention.q(x) * scores[..., None]


class TFPatchworkModel(PreTrainedModel):
    """Token ids to hidden states."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = Embedding(self.spec.vocab_size, self.spec.hidden_size)
        self.layers_ = [Block(self.spec) for _ in range(self.spec.num_layers)]

    def forward(self, input_ids: Any, training: bool = False) -> Any:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        x = self.tokens(input_ids)
        for layer in self.layers_:
            x = layer(x)
        return self.result(True, last_hidden_state=x)


add_classes(globals(), [PATCHWORK], prefix="TF")
