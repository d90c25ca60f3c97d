"""Llama in Flax, and the decoders that share its shape.

B batch, T query tokens, S key tokens, H heads, K key-value heads, D head size, C hidden size, V vocabulary.
Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures import DecoderSpec
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.outputs import ModelOutput
from loadstone_flax.generation import Cache
from loadstone_flax.layers import (
    ACTIVATIONS,
    Dropout,
    Embedding,
    Linear,
    RMSNorm,
    RotaryEmbedding,
    attention,
    causal_mask,
    merge_heads,
    rotate,
    split_heads,
    stack,
)
from loadstone_flax.losses import causal_lm_loss, sequence_loss, span_loss, token_loss
from loadstone_flax.modeling import PreTrainedModel

Output = ModelOutput | tuple[Any, ...]


class LlamaMLP(nnx.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, spec: DecoderSpec) -> None:
        self.gate_proj = Linear(spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        self.up_proj = Linear(spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        self.down_proj = Linear(spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)
        self.activation = ACTIVATIONS[spec.activation]

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, C)."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class LlamaAttention(nnx.Module):
    """Rotary attention with grouped keys and values."""

    def __init__(self, spec: DecoderSpec) -> None:
        self.spec = spec
        queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        self.q_proj = Linear(spec.hidden_size, queries, bias=spec.attention_bias)
        self.k_proj = Linear(spec.hidden_size, keys, bias=spec.attention_bias)
        self.v_proj = Linear(spec.hidden_size, keys, bias=spec.attention_bias)
        self.o_proj = Linear(queries, spec.hidden_size, bias=spec.output_bias)
        self.dropout = Dropout(spec.attention_dropout)

    def __call__(
        self,
        x: Array,
        rotary: tuple[Array, Array],
        mask: Array,
        cache: Cache | None,
        layer: int,
        eager: bool,
    ) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        q = rotate(split_heads(self.q_proj(x), self.spec.head_dim), *rotary)  # (B, T, H, D)
        k = rotate(split_heads(self.k_proj(x), self.spec.head_dim), *rotary)  # (B, T, K, D)
        v = split_heads(self.v_proj(x), self.spec.head_dim)  # (B, T, K, D)
        if cache is not None:
            k, v = cache.update(k, v, layer)  # (B, S, K, D)
        mixed, weights = attention(
            q, k, v, mask, scale=self.spec.attention_scale, dropout=self.dropout, eager=eager
        )
        return self.o_proj(merge_heads(mixed)), weights


class LlamaDecoderLayer(nnx.Module):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, spec: DecoderSpec) -> None:
        self.self_attn = LlamaAttention(spec)
        self.mlp = LlamaMLP(spec)
        self.input_layernorm = RMSNorm(spec.hidden_size, spec.norm_eps)
        self.post_attention_layernorm = RMSNorm(spec.hidden_size, spec.norm_eps)

    def __call__(
        self,
        x: Array,
        rotary: tuple[Array, Array],
        mask: Array,
        cache: Cache | None,
        layer: int,
        eager: bool,
    ) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the attention weights where eager."""
        mixed, weights = self.self_attn(self.input_layernorm(x), rotary, mask, cache, layer, eager)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class FlaxLlamaModel(PreTrainedModel):
    """The decoder without a head: token ids to hidden states."""

    spec: DecoderSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        spec = self.spec
        self.embed_tokens = Embedding(spec.vocab_size, spec.hidden_size)
        self.layers = stack(spec.num_layers, lambda: LlamaDecoderLayer(spec))
        self.norm = RMSNorm(spec.hidden_size, spec.norm_eps)
        self.rotary_emb = RotaryEmbedding(spec.rope)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Array | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the decoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), zero at padding; S counts the slots of the cache too.
            position_ids: (B, T); counted from the cached tokens on where absent.
            past_key_values: The cache of earlier tokens; the extended one is returned.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            use_cache: Return a cache.
            output_attentions: Return the weights of each layer, (B, H, T, S).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, C), `past_key_values`, `hidden_states`, `attentions`.
        """
        x = self.embed(self.embed_tokens, input_ids, inputs_embeds)
        cache = past_key_values
        if cache is None and self.wants("use_cache", use_cache):
            cache = Cache()
        tokens = x.shape[1]
        seen = cache.get_seq_length() if cache is not None else 0
        keys = cache.get_size() if cache is not None and cache.length is not None else seen + tokens
        if position_ids is None:
            position_ids = (seen + jnp.arange(tokens))[None]
        rotary = self.rotary_emb(x, position_ids)
        masks = {
            window: causal_mask(attention_mask, seen=seen, queries=tokens, keys=keys, window=window)
            for window in set(self.spec.windows)
        }
        want_weights = self.wants("output_attentions", output_attentions)
        eager = want_weights or self.attn_implementation == "eager"
        states, weights = [x], []
        for index, (layer, window) in enumerate(zip(self.layers, self.spec.windows, strict=True)):
            x, attended = layer(x, rotary, masks[window], cache, index, eager)
            states.append(x)
            weights.append(attended)
        if cache is not None:
            cache.advance(tokens)
        x = self.norm(x)
        states[-1] = x  # the last state is the normalised one
        return self.output(
            return_dict,
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class FlaxLlamaForCausalLM(PreTrainedModel):
    """The decoder with a head that scores the next token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = FlaxLlamaModel(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        *,
        labels: Array | None = None,
        logits_to_keep: int | Array = 0,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score the next token at each position; inputs as `FlaxLlamaModel.forward`.

        Args:
            labels: (B, T) token ids, -100 where ignored; the shift by one happens here.
            logits_to_keep: Score only this many last positions (0: all), or the positions of an index array.

        Returns:
            `loss`, `logits` (B, T, V), and what `FlaxLlamaModel.forward` returns.
        """
        base = self.model.forward(input_ids, attention_mask, return_dict=True, **inputs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(base.last_hidden_state[:, kept])
        loss = None if labels is None else causal_lm_loss(logits, labels)
        return self.output(return_dict, loss=loss, logits=logits, **_rest(base))


class FlaxLlamaForSequenceClassification(PreTrainedModel):
    """The decoder with a head that classifies a sequence by its last token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = FlaxLlamaModel(config)
        self.score = Linear(self.spec.hidden_size, self.spec.classifier.num_labels, bias=False)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        *,
        labels: Array | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify; inputs as `FlaxLlamaModel.forward`.

        Args:
            labels: (B,) classes or values, or (B, L) for several labels a sequence.

        Returns:
            `loss`, `logits` (B, L), and what `FlaxLlamaModel.forward` returns.
        """
        base = self.model.forward(input_ids, attention_mask, return_dict=True, **inputs)
        x = base.last_hidden_state
        last = self._last_token(input_ids, len(x))
        logits = self.score(x[jnp.arange(len(x)), last])
        loss = None if labels is None else sequence_loss(logits, labels, self.spec.classifier)
        return self.output(return_dict, loss=loss, logits=logits, **_rest(base))

    def _last_token(self, input_ids: Array | None, batch: int) -> Array | int:
        """Return the position (B,) of the last token that is not padding, wherever the padding is."""
        pad = self.spec.classifier.pad_token_id
        if pad is None and batch != 1:
            raise ArgumentError("a batch of several sequences needs config.pad_token_id to find their ends")
        if pad is None or input_ids is None:
            return -1
        return (jnp.arange(input_ids.shape[1]) * (input_ids != pad)).argmax(-1)


class FlaxLlamaForTokenClassification(PreTrainedModel):
    """The decoder with a head that classifies each token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = FlaxLlamaModel(config)
        self.dropout = Dropout(self.spec.classifier.dropout)
        self.score = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        *,
        labels: Array | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Classify each token; inputs as `FlaxLlamaModel.forward`, `labels` (B, T) with -100 where ignored.

        Returns:
            `loss`, `logits` (B, T, L), and what `FlaxLlamaModel.forward` returns.
        """
        base = self.model.forward(input_ids, attention_mask, return_dict=True, **inputs)
        logits = self.score(self.dropout(base.last_hidden_state))
        loss = None if labels is None else token_loss(logits, labels)
        return self.output(return_dict, loss=loss, logits=logits, **_rest(base))


class FlaxLlamaForQuestionAnswering(PreTrainedModel):
    """The decoder with a head that scores where an answer starts and ends."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.transformer = FlaxLlamaModel(config)
        self.qa_outputs = Linear(self.spec.hidden_size, 2)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        *,
        start_positions: Array | None = None,
        end_positions: Array | None = None,
        return_dict: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """Score each token as start and as end; inputs as `FlaxLlamaModel.forward`, positions (B,).

        Returns:
            `loss`, `start_logits` (B, T), `end_logits` (B, T), and what `FlaxLlamaModel.forward` returns.
        """
        base = self.transformer.forward(input_ids, attention_mask, return_dict=True, **inputs)
        starts, ends = jnp.unstack(self.qa_outputs(base.last_hidden_state), axis=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(starts, ends, start_positions, end_positions)
        return self.output(return_dict, loss=loss, start_logits=starts, end_logits=ends, **_rest(base))


def _rest(base: ModelOutput) -> dict[str, Any]:
    return {name: value for name, value in base.items() if name != "last_hidden_state"}
