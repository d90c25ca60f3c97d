"""BERT in PyTorch.

B batch, T tokens, H heads, D head size, C hidden size, V vocabulary, L labels, N choices.
Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import EncoderSpec
from loadstone.architectures.bert import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
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
    Embedding,
    LayerNorm,
    Linear,
    attention,
    merge_heads,
    padding_mask,
    parameter,
    split_heads,
)
from loadstone_torch.losses import token_loss
from loadstone_torch.modeling import PreTrainedModel
from loadstone_torch.recompute import Layer


class BertEmbeddings(nn.Module):
    """Words, positions and token types, added and normalised."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.word_embeddings = Embedding(spec.vocab_size, spec.hidden_size, padding_idx=spec.pad_token_id)
        self.position_embeddings = Embedding(spec.max_positions, spec.hidden_size)
        if spec.type_vocab_size:
            self.token_type_embeddings = Embedding(spec.type_vocab_size, spec.hidden_size)
        self.LayerNorm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout)
        self.spec = spec

    def forward(self, words: Tensor, token_type_ids: Tensor | None, position_ids: Tensor) -> Tensor:
        """Word embeddings (B, T, C) and ids (B, T) -> (B, T, C)."""
        x = words
        if self.spec.type_vocab_size:
            if token_type_ids is None:
                token_type_ids = torch.zeros(words.shape[:2], dtype=torch.long, device=words.device)
            x = x + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(position_ids)
        mixed: Tensor = self.dropout(self.LayerNorm(x))
        return mixed

    def positions(self, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Return positions (B or 1, T) where the caller gave none."""
        if not self.spec.positions_skip_padding:
            return torch.arange(words.shape[1], device=words.device)[None]
        pad = self.spec.pad_token_id or 0
        if input_ids is None:
            return torch.arange(pad + 1, pad + 1 + words.shape[1], device=words.device)[None]
        real = input_ids != pad
        return real.cumsum(-1) * real + pad


class BertSelfAttention(nn.Module):
    """Attention of all tokens to all tokens."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.head_dim = spec.hidden_size // spec.num_heads
        self.dropout = spec.attention_dropout
        self.query = Linear(spec.hidden_size, spec.hidden_size)
        self.key = Linear(spec.hidden_size, spec.hidden_size)
        self.value = Linear(spec.hidden_size, spec.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None, eager: bool) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, T) where eager."""
        q, k, v = (split_heads(project(x), self.head_dim) for project in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attention(q, k, v, mask, scale=self.head_dim**-0.5, dropout=dropout, eager=eager)
        return merge_heads(mixed), weights


class BertResidual(nn.Module):
    """A projection, added to the block's input and normalised."""

    def __init__(self, spec: EncoderSpec, in_features: int) -> None:
        super().__init__()
        self.dense = Linear(in_features, spec.hidden_size)
        self.LayerNorm = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(B, T, in_features) and (B, T, C) -> (B, T, C)."""
        mixed: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + residual)
        return mixed


class BertAttention(nn.Module):
    """Self-attention and its residual."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.self = BertSelfAttention(spec)
        self.output = BertResidual(spec, spec.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None, eager: bool) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights where eager."""
        mixed, weights = self.self(x, mask, eager)
        return self.output(mixed, x), weights


class BertIntermediate(nn.Module):
    """The widening half of the feed-forward."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.intermediate_size)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, intermediate)."""
        widened: Tensor = self.activation(self.dense(x))
        return widened


class BertLayer(Layer):
    """Attention and feed-forward, each normalised after it is added to its input."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.attention = BertAttention(spec)
        self.intermediate = BertIntermediate(spec)
        self.output = BertResidual(spec, spec.intermediate_size)

    def forward(self, x: Tensor, mask: Tensor | None, eager: bool) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the attention weights where eager."""
        x, weights = self.attention(x, mask, eager)
        return self.output(self.intermediate(x), x), weights


class BertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(spec) for _ in range(spec.num_layers))

    def forward(
        self, x: Tensor, mask: Tensor | None, eager: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """(B, T, C) -> the last state, all states from the input on, and all attention weights."""
        states, weights = [x], []
        for layer in self.layer:
            x, attended = layer(x, mask, eager)
            states.append(x)
            weights.append(attended)
        return x, states, weights


class BertPooler(nn.Module):
    """tanh(dense(first token))."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, C)."""
        return torch.tanh(self.dense(x[:, 0]))


class BertModel(PreTrainedModel):
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

        Returns:
            `last_hidden_state` (B, T, C), `pooler_output` (B, C), `hidden_states`, `attentions`.
        """
        words = self.embed(self.embeddings.word_embeddings, input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = self.embeddings.positions(input_ids, words)
        x = self.embeddings(words, token_type_ids, position_ids)
        want_weights = self.wants("output_attentions", output_attentions)
        eager = want_weights or self.attn_implementation == "eager"
        x, states, weights = self.encoder(x, padding_mask(attention_mask, words.shape[1]), eager)
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


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
