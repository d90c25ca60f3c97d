"""ELECTRA in TensorFlow.

B batch, T tokens.
Source: Clark et al. 2020, https://arxiv.org/abs/2003.10555.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from loadstone.architectures import family
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_tensorflow.blocks.embeddings import Embeddings
from loadstone_tensorflow.blocks.encoder import Encoder
from loadstone_tensorflow.blocks.layer import NestedLayer
from loadstone_tensorflow.blocks.run import place
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import (
    ForFirstTokenClassification,
    ForMaskedLM,
    ForMultipleChoice,
    ForQuestionAnswering,
    ForTokenClassification,
    Headed,
    Output,
)
from loadstone_tensorflow.layers import ACTIVATIONS, Linear
from loadstone_tensorflow.losses import binary_loss

Tensor: TypeAlias = tf.Tensor


class ElectraEmbeddings(Embeddings):
    """Words, positions and token types, added and normalised."""


class ElectraLayer(NestedLayer):
    """Attention and feed-forward, each normalised after it is added to its input."""


class TFElectraModel(Encoder):
    """The encoder without a head: token ids to hidden states."""

    embeddings_class, layer_class = ElectraEmbeddings, ElectraLayer

    def __init__(self, config: Config) -> None:
        """Build it without memory; there is no pooler."""
        super().__init__(config)


class TFElectraForPreTraining(Headed):
    """ELECTRA with a head that tells which tokens were replaced."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        size = self.spec.hidden_size
        place(self, "discriminator_predictions.dense", Linear(size, size))
        place(self, "discriminator_predictions.dense_prediction", Linear(size, 1))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score each token as replaced; other inputs as `TFElectraModel.forward`, `labels` (B, T), 1 where it was.

        The loss counts the tokens that are not padding.

        Returns:
            `loss`, `logits` (B, T), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        head = self.discriminator_predictions
        x = ACTIVATIONS[self.spec.layers[0].feed_forward.activation](head.dense(base.last_hidden_state))
        logits = tf.squeeze(head.dense_prediction(x), -1)
        loss = None if labels is None else binary_loss(logits, labels, attention_mask)
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


HEADS = {
    "MaskedLM": ForMaskedLM,
    "SequenceClassification": ForFirstTokenClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
    "MultipleChoice": ForMultipleChoice,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), family("electra"), HEADS, prefix="TF")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
