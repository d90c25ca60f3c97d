"""Llama in TensorFlow, and the decoders that share its shape.

B batch, T query tokens, S key tokens, H heads, K key-value heads, D head size, C hidden size, V vocabulary.
Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971.
"""

from __future__ import annotations

from typing import Any

from loadstone.architectures import DecoderSpec
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.outputs import ModelOutput
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.generation import Cache, Layers
from loadstone_tensorflow.layers import (
    ACTIVATIONS,
    Dropout,
    Embedding,
    Layer,
    Linear,
    RMSNorm,
    RotaryEmbedding,
    attention,
    causal_mask,
    merge_heads,
    rotate,
    sizes,
    split_heads,
)
from loadstone_tensorflow.losses import causal_lm_loss, sequence_loss, span_loss, token_loss
from loadstone_tensorflow.modeling import PreTrainedModel

Tensor = tf.Tensor
Output = ModelOutput | tuple[Any, ...]


class LlamaMLP(Layer):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.gate_proj = Linear(spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        self.up_proj = Linear(spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        self.down_proj = Linear(spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)
        self.activation = ACTIVATIONS[spec.activation]

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class LlamaAttention(Layer):
    """Rotary attention with grouped keys and values."""

    def __init__(self, spec: DecoderSpec, layer: int) -> None:
        super().__init__()
        self.spec, self.layer = spec, layer
        queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        self.q_proj = Linear(spec.hidden_size, queries, bias=spec.attention_bias)
        self.k_proj = Linear(spec.hidden_size, keys, bias=spec.attention_bias)
        self.v_proj = Linear(spec.hidden_size, keys, bias=spec.attention_bias)
        self.o_proj = Linear(queries, spec.hidden_size, bias=spec.output_bias)
        self.dropout = Dropout(spec.attention_dropout)

    def call(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache | None,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S)."""
        q = rotate(split_heads(self.q_proj(x), self.spec.head_dim), *rotary)  # (B, H, T, D)
        k = rotate(split_heads(self.k_proj(x), self.spec.head_dim), *rotary)  # (B, K, T, D)
        v = split_heads(self.v_proj(x), self.spec.head_dim)  # (B, K, T, D)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)  # (B, K, S, D)
        mixed, weights = attention(
            q, k, v, mask, scale=self.spec.attention_scale, dropout=self.dropout, training=training
        )
        return self.o_proj(merge_heads(mixed)), weights


class LlamaDecoderLayer(Layer):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, spec: DecoderSpec, layer: int) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(spec, layer)
        self.mlp = LlamaMLP(spec)
        self.input_layernorm = RMSNorm(spec.hidden_size, spec.norm_eps)
        self.post_attention_layernorm = RMSNorm(spec.hidden_size, spec.norm_eps)

    def call(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache | None,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the attention weights."""
        mixed, weights = self.self_attn(self.input_layernorm(x), rotary, mask, cache, training)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class TFLlamaModel(PreTrainedModel):
    """The decoder without a head: token ids to hidden states."""

    spec: DecoderSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        spec = self.spec
        self.embed_tokens = Embedding(spec.vocab_size, spec.hidden_size)
        self.layers_ = [LlamaDecoderLayer(spec, i) for i in range(spec.num_layers)]
        self.norm = RMSNorm(spec.hidden_size, spec.norm_eps)
        self.rotary_emb = RotaryEmbedding(spec.rope)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | Layers | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the decoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), zero at padding; S counts the cached tokens too.
            position_ids: (B, T); counted from the cached tokens on where absent.
            past_key_values: What an earlier call returned, or a `Cache`.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            use_cache: Return keys and values.
            output_attentions: Return the weights of each layer, (B, H, T, S).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            `last_hidden_state` (B, T, C), `past_key_values` (a pair (B, K, S, D) per layer), `hidden_states`, `attentions`.
        """
        x = self.embed(self.embed_tokens, input_ids, inputs_embeds)
        cache = Cache.of(past_key_values, wanted=self.wants("use_cache", use_cache))
        queries = sizes(x)[1]
        seen = cache.get_seq_length() if cache is not None else 0
        keys = cache.keys(queries) if cache is not None else queries
        if position_ids is None:
            position_ids = (tf.range(queries) + seen)[None]
        rotary = self.rotary_emb(x, position_ids)
        masks = {
            window: causal_mask(attention_mask, first=seen, queries=queries, keys=keys, window=window)
            for window in set(self.spec.windows)
        }
        want_weights = self.wants("output_attentions", output_attentions)
        states, weights = [x], []
        for layer, window in zip(self.layers_, self.spec.windows, strict=True):
            x, attended = layer(x, rotary, masks[window], cache, training)
            states.append(x)
            if want_weights:  # they are large: nothing else shall hold them
                weights.append(attended)
        x = self.norm(x)
        states[-1] = x  # the last state is the normalised one
        return self.result(
            return_dict,
            last_hidden_state=x,
            past_key_values=None if cache is None else tuple(cache),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class TFLlamaForCausalLM(PreTrainedModel):
    """The decoder with a head that scores the next token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = TFLlamaModel(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score the next token at each position; inputs as `TFLlamaModel.forward`.

        Args:
            labels: (B, T) token ids, -100 where ignored; the shift by one happens here.
            logits_to_keep: Score only this many last positions (0: all), or the positions of an index tensor.

        Returns:
            `loss`, `logits` (B, T, V), and what `TFLlamaModel.forward` returns.
        """
        base = self.model(input_ids, attention_mask, return_dict=True, **inputs)
        x = base.last_hidden_state
        kept = (
            x[:, -logits_to_keep:]
            if isinstance(logits_to_keep, int)
            else tf.gather(x, logits_to_keep, axis=1)
        )
        logits = self.lm_head(kept)
        loss = None if labels is None else causal_lm_loss(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **_rest(base))


class TFLlamaForSequenceClassification(PreTrainedModel):
    """The decoder with a head that classifies a sequence by its last token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = TFLlamaModel(config)
        self.score = Linear(self.spec.hidden_size, self.spec.classifier.num_labels, bias=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; inputs as `TFLlamaModel.forward`.

        Args:
            labels: (B,) classes or values, or (B, L) for several labels a sequence.

        Returns:
            `loss`, `logits` (B, L), and what `TFLlamaModel.forward` returns.
        """
        base = self.model(input_ids, attention_mask, return_dict=True, **inputs)
        x = base.last_hidden_state
        last = self._last_token(input_ids, x)
        logits = self.score(tf.gather(x, last, axis=1, batch_dims=1))
        loss = None if labels is None else sequence_loss(logits, labels, self.spec.classifier)
        return self.result(return_dict, loss=loss, logits=logits, **_rest(base))

    def _last_token(self, input_ids: Tensor | None, x: Tensor) -> Tensor:
        """Return the position (B,) of the last token that is not padding, wherever the padding is."""
        pad, (batch, tokens, _) = self.spec.classifier.pad_token_id, sizes(x)
        if pad is None and batch != 1:
            raise ArgumentError("a batch of several sequences needs config.pad_token_id to find their ends")
        if pad is None or input_ids is None:
            return tf.fill((batch,), tokens - 1)
        return tf.argmax(tf.range(tokens) * tf.cast(input_ids != pad, tf.int32), axis=-1)


class TFLlamaForTokenClassification(PreTrainedModel):
    """The decoder with a head that classifies each token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = TFLlamaModel(config)
        self.dropout = Dropout(self.spec.classifier.dropout)
        self.score = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        training: bool = False,
        **inputs: Any,
    ) -> Output:
        """Classify each token; inputs as `TFLlamaModel.forward`, `labels` (B, T) with -100 where ignored.

        Returns:
            `loss`, `logits` (B, T, L), and what `TFLlamaModel.forward` returns.
        """
        base = self.model(input_ids, attention_mask, return_dict=True, training=training, **inputs)
        logits = self.score(self.dropout(base.last_hidden_state, training))
        loss = None if labels is None else token_loss(logits, labels)
        return self.result(return_dict, loss=loss, logits=logits, **_rest(base))


class TFLlamaForQuestionAnswering(PreTrainedModel):
    """The decoder with a head that scores where an answer starts and ends."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.transformer = TFLlamaModel(config)
        self.qa_outputs = Linear(self.spec.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score each token as start and as end; inputs as `TFLlamaModel.forward`, positions (B,).

        Returns:
            `loss`, `start_logits` (B, T), `end_logits` (B, T), and what `TFLlamaModel.forward` returns.
        """
        base = self.transformer(input_ids, attention_mask, return_dict=True, **inputs)
        starts, ends = tf.unstack(self.qa_outputs(base.last_hidden_state), axis=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(starts, ends, start_positions, end_positions)
        return self.result(return_dict, loss=loss, start_logits=starts, end_logits=ends, **_rest(base))


def _rest(base: ModelOutput) -> dict[str, Any]:
    return {name: value for name, value in base.items() if name != "last_hidden_state"}
