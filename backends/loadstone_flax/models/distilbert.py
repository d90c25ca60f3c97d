"""DistilBERT in Flax.

B batch, T tokens, C hidden size.
Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax import Array

from loadstone.architectures.distilbert import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_flax.blocks.encoder import Encoder
from loadstone_flax.blocks.layer import Layer
from loadstone_flax.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)


class DistilBertLayer(Layer):
    """Attention and feed-forward, each normalised after it is added to its input."""


class FlaxDistilBertModel(Encoder):
    """DistilBERT without a head: token ids to hidden states."""

    layer_class = DistilBertLayer

    def __init__(self, config: Config) -> None:
        """Build it without memory."""
        super().__init__(config)

    def forward(  # type: ignore[override]
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        position_ids: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the encoder, as `Encoder.forward` does; there are no token types."""
        return super().forward(
            input_ids,
            attention_mask,
            None,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            return_dict,
        )


HEADS = {
    "MaskedLM": ForMaskedLM,
    "SequenceClassification": ForPooledClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
    "MultipleChoice": ForMultipleChoice,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS, prefix="Flax")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
