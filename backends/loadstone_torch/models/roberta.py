"""RoBERTa and XLM-RoBERTa in PyTorch: BERT's encoder with other heads.

B batch, T tokens, C hidden size, V vocabulary, L labels.
Source: Liu et al. 2019, https://arxiv.org/abs/1907.11692.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loadstone.architectures import EncoderSpec
from loadstone.architectures.roberta import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_torch.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForQuestionAnswering,
    ForTokenClassification,
    Headed,
    Output,
)
from loadstone_torch.layers import LayerNorm, Linear, parameter
from loadstone_torch.losses import sequence_loss
from loadstone_torch.models.bert import BertModel


class RobertaLMHead(nn.Module):
    """Scores of every token of the vocabulary at each position."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)
        self.layer_norm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.decoder = Linear(spec.hidden_size, spec.vocab_size)
        self.bias = parameter(spec.vocab_size)  # stored beside the decoder's own, which is tied to it

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        x = self.layer_norm(nn.functional.gelu(self.dense(x)))
        logits: Tensor = self.decoder(x)
        return logits


class RobertaForMaskedLM(ForMaskedLM):
    """RoBERTa with a head that fills in masked tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lm_head = RobertaLMHead(self.spec)

    def token_scores(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        logits: Tensor = self.lm_head(x)
        return logits


class RobertaClassificationHead(nn.Module):
    """out_proj(tanh(dense(first token)))."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)
        self.dropout = nn.Dropout(spec.classifier.dropout)
        self.out_proj = Linear(spec.hidden_size, spec.classifier.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, L)."""
        x = self.dropout(x[:, 0])
        logits: Tensor = self.out_proj(self.dropout(torch.tanh(self.dense(x))))
        return logits


class RobertaForSequenceClassification(Headed):
    """RoBERTa with a head that classifies a sequence by its first token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = RobertaClassificationHead(self.spec)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; other inputs as `BertModel.forward`, `labels` (B,) classes or values, or (B, L) for several.

        Returns:
            `loss`, `logits` (B, L), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.classifier(base.last_hidden_state)
        loss = None if labels is None else sequence_loss(logits, labels, self.classifier_spec())
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


class RobertaForMultipleChoice(ForMultipleChoice):
    """RoBERTa with a head that scores each of several continuations."""

    @property
    def head_dropout(self) -> float:
        """The encoder's own: `classifier_dropout` is for other heads, in transformers too."""
        return self.spec.hidden_dropout


HEADS = {
    "": BertModel,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
