"""DistilBERT in TensorFlow.

B batch, T tokens, C hidden size.
Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from loadstone.architectures.distilbert import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_tensorflow.blocks.encoder import Encoder
from loadstone_tensorflow.blocks.layer import Layer
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)

Tensor: TypeAlias = tf.Tensor


class DistilBertLayer(Layer):
    """Attention and feed-forward, each normalised after it is added to its input."""


class TFDistilBertModel(Encoder):
    """DistilBERT without a head: token ids to hidden states."""

    layer_class = DistilBertLayer

    def __init__(self, config: Config) -> None:
        """Build it without memory."""
        super().__init__(config)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
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
            training,
        )


HEADS = {
    "MaskedLM": ForMaskedLM,
    "SequenceClassification": ForPooledClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
    "MultipleChoice": ForMultipleChoice,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS, prefix="TF")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
