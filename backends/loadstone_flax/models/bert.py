"""BERT in Flax.

B batch, T tokens, V vocabulary.
Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax import Array

from loadstone.architectures.bert import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_flax.blocks.embeddings import Embeddings
from loadstone_flax.blocks.encoder import Encoder
from loadstone_flax.blocks.layer import NestedLayer
from loadstone_flax.blocks.run import place
from loadstone_flax.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Headed,
    Output,
)
from loadstone_flax.layers import Linear
from loadstone_flax.losses import cross_entropy, token_loss


class BertEmbeddings(Embeddings):
    """Words, positions and token types, added and normalised."""


class BertLayer(NestedLayer):
    """Attention and feed-forward, each normalised after it is added to its input."""


class FlaxBertModel(Encoder):
    """The encoder without a head: token ids to hidden states."""

    embeddings_class, layer_class = BertEmbeddings, BertLayer


class FlaxBertForPreTraining(ForMaskedLM):
    """BERT with both heads of pre-training."""

    reads_pooled = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        place(self, "cls.seq_relationship", Linear(self.spec.hidden_size, 2))

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        *,
        labels: Array | None = None,
        next_sentence_label: Array | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score masked tokens and whether the second sentence follows; other inputs as `FlaxBertModel.forward`.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), zero at padding.
            labels: (B, T) token ids, -100 where ignored.
            next_sentence_label: (B,), 0 where it follows, 1 where it does not.
            return_dict: False returns a tuple.
            **inputs: See `FlaxBertModel.forward`.

        Returns:
            `loss`, `prediction_logits` (B, T, V), `seq_relationship_logits` (B, 2), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.token_scores(base.last_hidden_state)
        related = self.cls.seq_relationship(base.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = token_loss(logits, labels) + cross_entropy(related, next_sentence_label.reshape(-1))
        return self.result(
            return_dict, loss=loss, prediction_logits=logits, seq_relationship_logits=related, **base.rest()
        )


class FlaxBertForNextSentencePrediction(Headed):
    """BERT with a head that tells whether the second sentence follows the first."""

    reads_pooled = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        place(self, "cls.seq_relationship", Linear(self.spec.hidden_size, 2))

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        *,
        labels: Array | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify pairs; other inputs as `FlaxBertModel.forward`, `labels` (B,), 0 where the second sentence follows.

        Returns:
            `loss`, `logits` (B, 2), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.cls.seq_relationship(base.pooler_output)
        loss = None if labels is None else cross_entropy(logits, labels.reshape(-1))
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


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
