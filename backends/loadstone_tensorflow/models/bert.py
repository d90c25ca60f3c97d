"""BERT in TensorFlow.

B batch, T tokens, H heads, D head size, C hidden size, V vocabulary, L labels, N choices.
Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from loadstone.architectures import EncoderSpec
from loadstone.architectures.bert import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import (
    ForMaskedLM,
    ForMultipleChoice,
    ForPooledClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Headed,
    Output,
)
from loadstone_tensorflow.layers import (
    ACTIVATIONS,
    Dropout,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    attention,
    check_length,
    merge_heads,
    padding_mask,
    parameter,
    sizes,
    split_heads,
)
from loadstone_tensorflow.losses import class_loss, token_loss
from loadstone_tensorflow.modeling import PreTrainedModel

Tensor: TypeAlias = tf.Tensor


class BertEmbeddings(Layer):
    """Words, positions and token types, added and normalised."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.word_embeddings = Embedding(spec.vocab_size, spec.hidden_size, padding_idx=spec.pad_token_id)
        self.position_embeddings = Embedding(spec.max_positions, spec.hidden_size)
        if spec.type_vocab_size:
            self.token_type_embeddings = Embedding(spec.type_vocab_size, spec.hidden_size)
        self.LayerNorm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.dropout = Dropout(spec.hidden_dropout)
        self.spec = spec

    def call(
        self, words: Tensor, token_type_ids: Tensor | None, position_ids: Tensor, training: bool
    ) -> Tensor:
        """Word embeddings (B, T, C) and ids (B, T) -> (B, T, C)."""
        x = words
        if self.spec.type_vocab_size:
            if token_type_ids is None:
                token_type_ids = tf.zeros((1, 1), tf.int32)
            x = x + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(x), training)

    def positions(self, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Return positions (B or 1, T) where the caller gave none."""
        tokens = sizes(words)[1]
        counted = tf.range(tokens)[None]
        if not self.spec.positions_skip_padding:
            check_length(tokens, self.spec.max_positions)
            return counted
        pad = self.spec.pad_token_id or 0
        if input_ids is None:
            return counted + pad + 1
        real = tf.cast(input_ids != pad, tf.int32)
        return tf.cumsum(real, axis=-1) * real + pad


class BertSelfAttention(Layer):
    """Attention of all tokens to all tokens."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.head_dim = spec.hidden_size // spec.num_heads
        self.query = Linear(spec.hidden_size, spec.hidden_size)
        self.key = Linear(spec.hidden_size, spec.hidden_size)
        self.value = Linear(spec.hidden_size, spec.hidden_size)
        self.dropout = Dropout(spec.attention_dropout)

    def call(self, x: Tensor, mask: Tensor | None, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, T)."""
        q, k, v = (split_heads(project(x), self.head_dim) for project in (self.query, self.key, self.value))
        mixed, weights = attention(
            q, k, v, mask, scale=self.head_dim**-0.5, dropout=self.dropout, training=training
        )
        return merge_heads(mixed), weights


class BertResidual(Layer):
    """A projection, added to the block's input and normalised."""

    def __init__(self, spec: EncoderSpec, in_features: int) -> None:
        super().__init__()
        self.dense = Linear(in_features, spec.hidden_size)
        self.LayerNorm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.dropout = Dropout(spec.hidden_dropout)

    def call(self, x: Tensor, residual: Tensor, training: bool) -> Tensor:
        """(B, T, in_features) and (B, T, C) -> (B, T, C)."""
        return self.LayerNorm(self.dropout(self.dense(x), training) + residual)


class BertAttention(Layer):
    """Self-attention and its residual."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.self = BertSelfAttention(spec)
        self.output_ = BertResidual(spec, spec.hidden_size)

    def call(self, x: Tensor, mask: Tensor | None, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the weights."""
        mixed, weights = self.self(x, mask, training)
        return self.output_(mixed, x, training), weights


class BertIntermediate(Layer):
    """The widening half of the feed-forward."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.intermediate_size)
        self.activation = ACTIVATIONS[spec.activation]

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, intermediate)."""
        return self.activation(self.dense(x))


class BertLayer(Layer):
    """Attention and feed-forward, each normalised after it is added to its input."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.attention = BertAttention(spec)
        self.intermediate = BertIntermediate(spec)
        self.output_ = BertResidual(spec, spec.intermediate_size)

    def call(self, x: Tensor, mask: Tensor | None, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the attention weights."""
        x, weights = self.attention(x, mask, training)
        return self.output_(self.intermediate(x), x, training), weights


class BertEncoder(Layer):
    """The stack of layers."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.layer = [BertLayer(spec) for _ in range(spec.num_layers)]

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


class BertPooler(Layer):
    """tanh(dense(first token))."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, C)."""
        return tf.tanh(self.dense(x[:, 0]))


class TFBertModel(PreTrainedModel):
    """The encoder without a head: token ids to hidden states."""

    spec: EncoderSpec

    def __init__(self, config: Config, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(self.spec)
        self.encoder = BertEncoder(self.spec)
        self.pooler = BertPooler(self.spec) if add_pooling_layer else None

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the encoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), zero at padding.
            token_type_ids: (B, T); zeros where absent.
            position_ids: (B, T); counted from 0 where absent.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            output_attentions: Return the weights of each layer, (B, H, T, T).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            `last_hidden_state` (B, T, C), `pooler_output` (B, C), `hidden_states`, `attentions`.
        """
        words = self.embed(self.embeddings.word_embeddings, input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = self.embeddings.positions(input_ids, words)
        x = self.embeddings(words, token_type_ids, position_ids, training)
        want_weights = self.wants("output_attentions", output_attentions)
        mask = padding_mask(attention_mask, sizes(words)[1])
        x, states, weights = self.encoder(x, mask, training, want_weights)
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class BertTransform(Layer):
    """What the masked-token head does before it scores."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)
        self.LayerNorm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.activation = ACTIVATIONS[spec.activation]

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.LayerNorm(self.activation(self.dense(x)))


class BertPredictions(Layer):
    """Scores of every token of the vocabulary at each position."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.transform = BertTransform(spec)
        self.decoder = Linear(spec.hidden_size, spec.vocab_size)
        self.bias = parameter(spec.vocab_size)  # stored beside the decoder's own, which is tied to it

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        return self.decoder(self.transform(x))


class BertHeads(Layer):
    """The heads of pre-training, under the name that checkpoints have for them."""

    def __init__(
        self, spec: EncoderSpec, *, predictions: bool = False, seq_relationship: bool = False
    ) -> None:
        super().__init__()
        if predictions:
            self.predictions = BertPredictions(spec)
        if seq_relationship:
            self.seq_relationship = Linear(spec.hidden_size, 2)


class TFBertForPreTraining(Headed):
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
        """Score masked tokens and whether the second sentence follows; other inputs as `TFBertModel.forward`.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), zero at padding.
            labels: (B, T) token ids, -100 where ignored.
            next_sentence_label: (B,), 0 where it follows, 1 where it does not.
            return_dict: False returns a tuple.
            **inputs: See `TFBertModel.forward`.

        Returns:
            `loss`, `prediction_logits` (B, T, V), `seq_relationship_logits` (B, 2), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.cls.predictions(base.last_hidden_state)
        related = self.cls.seq_relationship(base.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = token_loss(logits, labels) + class_loss(related, next_sentence_label)
        return self.result(
            return_dict, loss=loss, prediction_logits=logits, seq_relationship_logits=related, **base.rest()
        )


class TFBertForMaskedLM(ForMaskedLM):
    """BERT with a head that fills in masked tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.cls = BertHeads(self.spec, predictions=True)

    def token_scores(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        return self.cls.predictions(x)


class TFBertForNextSentencePrediction(Headed):
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
        """Classify pairs; other inputs as `TFBertModel.forward`, `labels` (B,), 0 where the second sentence follows.

        Returns:
            `loss`, `logits` (B, 2), `hidden_states`, `attentions`.
        """
        base = self.run_base(input_ids, attention_mask, **inputs)
        logits = self.cls.seq_relationship(base.pooler_output)
        loss = None if labels is None else class_loss(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **base.rest())


HEADS = {
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
