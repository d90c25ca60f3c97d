"""DistilBERT in TensorFlow.

B batch, T tokens, H heads, D head size, C hidden size, V vocabulary, L labels.
Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures.distilbert import ARCHITECTURES, DistilBertSpec
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)
from loadstone_tensorflow.layers import (
    ACTIVATIONS,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    attention,
    merge_heads,
    padding_mask,
    sizes,
    split_heads,
)
from loadstone_tensorflow.modeling import PreTrainedModel
from loadstone_tensorflow.models.bert import BertEmbeddings

Tensor: TypeAlias = tf.Tensor


class DistilBertAttention(Layer):
    """Attention of all tokens to all tokens."""

    def __init__(self, spec: DistilBertSpec) -> None:
        super().__init__()
        self.head_dim = spec.hidden_size // spec.num_heads
        self.q_lin = Linear(spec.hidden_size, spec.hidden_size)
        self.k_lin = Linear(spec.hidden_size, spec.hidden_size)
        self.v_lin = Linear(spec.hidden_size, spec.hidden_size)
        self.out_lin = Linear(spec.hidden_size, spec.hidden_size)
        self.dropout = Dropout(spec.attention_dropout)

    def call(self, x: Tensor, mask: Tensor | None, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, T)."""
        q, k, v = (split_heads(project(x), self.head_dim) for project in (self.q_lin, self.k_lin, self.v_lin))
        mixed, weights = attention(
            q, k, v, mask, scale=self.head_dim**-0.5, dropout=self.dropout, training=training
        )
        return self.out_lin(merge_heads(mixed)), weights


class DistilBertFFN(Layer):
    """lin2(act(lin1(x)))."""

    def __init__(self, spec: DistilBertSpec) -> None:
        super().__init__()
        self.lin1 = Linear(spec.hidden_size, spec.intermediate_size)
        self.lin2 = Linear(spec.intermediate_size, spec.hidden_size)
        self.activation = ACTIVATIONS[spec.activation]
        self.dropout = Dropout(spec.hidden_dropout)

    def call(self, x: Tensor, training: bool) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.dropout(self.lin2(self.activation(self.lin1(x))), training)


class DistilBertLayer(Layer):
    """Attention and feed-forward, each normalised after it is added to its input."""

    def __init__(self, spec: DistilBertSpec) -> None:
        super().__init__()
        self.attention = DistilBertAttention(spec)
        self.sa_layer_norm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.ffn = DistilBertFFN(spec)
        self.output_layer_norm = LayerNorm(spec.hidden_size, spec.norm_eps)

    def call(self, x: Tensor, mask: Tensor | None, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the attention weights."""
        mixed, weights = self.attention(x, mask, training)
        x = self.sa_layer_norm(mixed + x)
        return self.output_layer_norm(self.ffn(x, training) + x), weights


class DistilBertStack(Layer):
    """The stack of layers, under the name that checkpoints have for it."""

    def __init__(self, spec: DistilBertSpec) -> None:
        super().__init__()
        self.layer = [DistilBertLayer(spec) for _ in range(spec.num_layers)]

    def call(
        self, x: Tensor, mask: Tensor | None, training: bool, want_weights: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """(B, T, C) -> the last state, all states from the input on, and all attention weights where wanted."""
        states, weights = [x], []
        for layer in self.layer:
            x, attended = layer(x, mask, training)
            states.append(x)
            if want_weights:  # they are large: nothing else shall hold them
                weights.append(attended)
        return x, states, weights


class TFDistilBertModel(PreTrainedModel):
    """DistilBERT without a head: token ids to hidden states."""

    spec: DistilBertSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(self.spec)
        self.transformer = DistilBertStack(self.spec)

    def forward(
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
        """Run the encoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), zero at padding.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            position_ids: (B, T); counted from 0 where absent.
            output_attentions: Return the weights of each layer, (B, H, T, T).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            `last_hidden_state` (B, T, C), `hidden_states`, `attentions`.
        """
        words = self.embed(self.embeddings.word_embeddings, input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = self.embeddings.positions(input_ids, words)
        x = self.embeddings(words, None, position_ids, training)
        want_weights = self.wants("output_attentions", output_attentions)
        mask = padding_mask(attention_mask, sizes(words)[1])
        x, states, weights = self.transformer(x, mask, training, want_weights)
        return self.result(
            return_dict,
            last_hidden_state=x,
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class TFDistilBertForMaskedLM(ForMaskedLM):
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
        return self.vocab_projector(x)


class TFDistilBertForSequenceClassification(ForPooledClassification):
    """DistilBERT with a head that classifies a sequence by its first token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pre_classifier = Linear(self.spec.hidden_size, self.spec.hidden_size)

    def pooled(self, base: ModelOutput, training: bool) -> Tensor:
        """relu(pre_classifier(first token)), (B, C)."""
        return tf.nn.relu(self.pre_classifier(base.last_hidden_state[:, 0]))


class TFDistilBertForTokenClassification(ForTokenClassification):
    """DistilBERT with a head that classifies each token."""

    @property
    def head_dropout(self) -> float:
        """The encoder's own: `seq_classif_dropout` is for other heads, in transformers too."""
        return self.spec.hidden_dropout


class TFDistilBertForQuestionAnswering(ForQuestionAnswering):
    """DistilBERT with a head that scores where an answer starts and ends."""

    def before_answers(self, x: Tensor, training: bool) -> Tensor:
        """Drop some of the last state in training."""
        return Dropout(self.spec.answer_dropout)(x, training)


class TFDistilBertForMultipleChoice(ForMultipleChoice):
    """DistilBERT with a head that scores each of several continuations."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pre_classifier = Linear(self.spec.hidden_size, self.spec.hidden_size)

    def pooled(self, base: ModelOutput, training: bool) -> Tensor:
        """relu(pre_classifier(first token)), (B, C)."""
        return tf.nn.relu(self.pre_classifier(base.last_hidden_state[:, 0]))


add_classes(globals(), ARCHITECTURES, prefix="TF")
