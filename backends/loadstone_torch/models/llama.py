"""Llama in PyTorch, and the decoders that share its shape: what sets them apart is in the spec.

Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadstone.architectures import family
from loadstone.model.classes import add_classes
from loadstone_torch.blocks.decoder import Decoder
from loadstone_torch.blocks.layer import Layer
from loadstone_torch.heads import (
    ForCausalLM,
    ForLastTokenClassification,
    ForQuestionAnswering,
    ForTokenClassification,
)


class LlamaDecoderLayer(Layer):
    """A layer: its parts `self_attn` and `mlp` are normalised before, in a sandwich also after."""


class LlamaModel(Decoder):
    """The decoder without a head: token ids to hidden states."""

    layer_class = LlamaDecoderLayer


HEADS = {
    "CausalLM": ForCausalLM,
    "SequenceClassification": ForLastTokenClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), family("llama"), HEADS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
