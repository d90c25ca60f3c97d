"""RoBERTa and XLM-RoBERTa in Flax: BERT's encoder with other heads.

Source: Liu et al. 2019, https://arxiv.org/abs/1907.11692.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadstone.architectures import family
from loadstone.model.classes import add_classes
from loadstone_flax.heads import (
    ForFirstTokenClassification,
    ForMaskedLM,
    ForMultipleChoice,
    ForQuestionAnswering,
    ForTokenClassification,
)
from loadstone_flax.models.bert import FlaxBertModel

HEADS = {
    "": FlaxBertModel,
    "MaskedLM": ForMaskedLM,
    "SequenceClassification": ForFirstTokenClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
    "MultipleChoice": ForMultipleChoice,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), family("roberta"), HEADS, prefix="Flax")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
