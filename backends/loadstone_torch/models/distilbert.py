"""DistilBERT in PyTorch.

B batch, T tokens, H heads, D head size, C hidden size, V vocabulary, L labels.
Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from loadstone.config import Config
from loadstone.model.outputs import ModelOutput
from loadstone_torch.blocks.encoder import Encoder
from loadstone_torch.blocks.layer import Layer
from loadstone_torch.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)
from loadstone_torch.layers import ACTIVATIONS, LayerNorm, Linear


class DistilBertLayer(Layer):
    """Attention and feed-forward, each normalised after it is added to its input."""


class DistilBertModel(Encoder):
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


class DistilBertForMaskedLM(ForMaskedLM):
    """DistilBERT with a head that fills in masked tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.activation = ACTIVATIONS[self.spec.activation]
        self.vocab_transform = Linear(self.spec.hidden_size, self.spec.hidden_size)
        self.vocab_layer_norm = LayerNorm(self.spec.hidden_size, self.spec.norm_eps)
        self.vocab_projector = Linear(self.spec.hidden_size, self.spec.vocab_size)

    def token_scores(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        x = self.vocab_layer_norm(self.activation(self.vocab_transform(x)))
        logits: Tensor = self.vocab_projector(x)
        return logits


class DistilBertForSequenceClassification(ForPooledClassification):
    """DistilBERT with a head that classifies a sequence by its first token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pre_classifier = Linear(self.spec.hidden_size, self.spec.hidden_size)

    def pooled(self, base: ModelOutput) -> Tensor:
        """relu(pre_classifier(first token)), (B, C)."""
        return F.relu(self.pre_classifier(base.last_hidden_state[:, 0]))


class DistilBertForTokenClassification(ForTokenClassification):
    """DistilBERT with a head that classifies each token."""

    @property
    def head_dropout(self) -> float:
        """The encoder's own: `seq_classif_dropout` is for other heads, in transformers too."""
        return self.spec.hidden_dropout


class DistilBertForQuestionAnswering(ForQuestionAnswering):
    """DistilBERT with a head that scores where an answer starts and ends."""

    def before_answers(self, x: Tensor) -> Tensor:
        """Drop some of the last state in training."""
        return F.dropout(x, self.spec.answer_dropout, self.training)


class DistilBertForMultipleChoice(ForMultipleChoice):
    """DistilBERT with a head that scores each of several continuations."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pre_classifier = Linear(self.spec.hidden_size, self.spec.hidden_size)

    def pooled(self, base: ModelOutput) -> Tensor:
        """relu(pre_classifier(first token)), (B, C)."""
        return F.relu(self.pre_classifier(base.last_hidden_state[:, 0]))
