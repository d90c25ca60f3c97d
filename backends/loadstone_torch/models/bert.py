"""BERT in PyTorch.

B batch, T tokens, H heads, D head size, C hidden size, V vocabulary, L labels, N choices.
Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import EncoderSpec
from loadstone.architectures.bert import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_torch.blocks.embeddings import Embeddings
from loadstone_torch.blocks.encoder import Encoder
from loadstone_torch.blocks.layer import NestedLayer
from loadstone_torch.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Headed,
    Output,
)
from loadstone_torch.layers import (
    ACTIVATIONS,
    LayerNorm,
    Linear,
    parameter,
)
from loadstone_torch.losses import token_loss


class BertEmbeddings(Embeddings):
    """Words, positions and token types, added and normalised."""


class BertLayer(NestedLayer):
    """Attention and feed-forward, each normalised after it is added to its input."""


class BertModel(Encoder):
    """The encoder without a head: token ids to hidden states."""

    embeddings_class, layer_class = BertEmbeddings, BertLayer


class BertTransform(nn.Module):
    """What the masked-token head does before it scores."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)
        self.LayerNorm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        mixed: Tensor = self.LayerNorm(self.activation(self.dense(x)))
        return mixed


class BertPredictions(nn.Module):
    """Scores of every token of the vocabulary at each position."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.transform = BertTransform(spec)
        self.decoder = Linear(spec.hidden_size, spec.vocab_size)
        self.bias = parameter(spec.vocab_size)  # stored beside the decoder's own, which is tied to it

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        logits: Tensor = self.decoder(self.transform(x))
        return logits


class BertHeads(nn.Module):
    """The heads of pre-training, under the name that checkpoints have for them."""

    def __init__(
        self, spec: EncoderSpec, *, predictions: bool = False, seq_relationship: bool = False
    ) -> None:
        super().__init__()
        if predictions:
            self.predictions = BertPredictions(spec)
        if seq_relationship:
            self.seq_relationship = Linear(spec.hidden_size, 2)


class BertForPreTraining(Headed):
    """BERT with both heads of pre-training."""

    reads_pooled = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cls = BertHeads(self.spec, predictions=True, seq_relationship=True)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score masked tokens and whether the second sentence follows; other inputs as `BertModel.forward`.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), zero at padding.
            labels: (B, T) token ids, -100 where ignored.
            next_sentence_label: (B,), 0 where it follows, 1 where it does not.
            return_dict: False returns a tuple.
            **inputs: See `BertModel.forward`.

        Returns:
            `loss`, `prediction_logits` (B, T, V), `seq_relationship_logits` (B, 2), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.cls.predictions(base.last_hidden_state)
        related = self.cls.seq_relationship(base.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = token_loss(logits, labels) + F.cross_entropy(related, next_sentence_label.flatten())
        return self.result(
            return_dict, loss=loss, prediction_logits=logits, seq_relationship_logits=related, **base.rest()
        )


class BertForMaskedLM(ForMaskedLM):
    """BERT with a head that fills in masked tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cls = BertHeads(self.spec, predictions=True)

    def token_scores(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        logits: Tensor = self.cls.predictions(x)
        return logits


class BertForNextSentencePrediction(Headed):
    """BERT with a head that tells whether the second sentence follows the first."""

    reads_pooled = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cls = BertHeads(self.spec, seq_relationship=True)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify pairs; other inputs as `BertModel.forward`, `labels` (B,), 0 where the second sentence follows.

        Returns:
            `loss`, `logits` (B, 2), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.cls.seq_relationship(base.pooler_output)
        loss = None if labels is None else F.cross_entropy(logits, labels.flatten())
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


HEADS = {
    "SequenceClassification": ForPooledClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
    "MultipleChoice": ForMultipleChoice,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
