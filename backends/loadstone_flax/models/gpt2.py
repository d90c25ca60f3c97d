"""GPT-2 in Flax. Its projections are stored as [in, out], and held so.

B batch, T query tokens, S key tokens, H heads, D head size, C hidden size, V vocabulary.
Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures.gpt2 import ARCHITECTURES, GPT2Spec
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_flax.generation import Cache
from loadstone_flax.heads import (
    ForCausalLM,
    ForLastTokenClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)
from loadstone_flax.layers import (
    ACTIVATIONS,
    Dropout,
    Embedding,
    LayerNorm,
    attention,
    causal_mask,
    contract,
    merge_heads,
    packed_sequences,
    parameter,
    split_heads,
    stack,
)
from loadstone_flax.modeling import PreTrainedModel


class Projection(nnx.Module):
    """x @ weight + bias, with `weight` [in, out]."""

    def __init__(self, in_features: int, out_features: int) -> None:
        self.weight = parameter(in_features, out_features)
        self.bias = parameter(out_features)

    def __call__(self, x: Array) -> Array:
        """(B, T, in) -> (B, T, out)."""
        return contract("...i,io->...o", x, self.weight[...]) + self.bias[...]


class GPT2Attention(nnx.Module):
    """Causal attention, queries, keys and values from one projection."""

    def __init__(self, spec: GPT2Spec) -> None:
        self.scales = spec.attention_scales
        self.head_dim = spec.hidden_size // spec.num_heads
        self.dropout = Dropout(spec.attention_dropout)
        self.c_attn = Projection(spec.hidden_size, 3 * spec.hidden_size)
        self.c_proj = Projection(spec.hidden_size, spec.hidden_size)
        self.resid_dropout = Dropout(spec.residual_dropout)

    def __call__(
        self, x: Array, mask: Array, cache: Cache | None, layer: int, eager: bool
    ) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        q, k, v = (split_heads(part, self.head_dim) for part in jnp.split(self.c_attn(x), 3, axis=-1))
        if cache is not None:
            k, v = cache.update(k, v, layer)  # (B, S, H, D)
        mixed, weights = attention(q, k, v, mask, scale=self.scales[layer], dropout=self.dropout, eager=eager)
        return self.resid_dropout(self.c_proj(merge_heads(mixed))), weights


class GPT2MLP(nnx.Module):
    """c_proj(act(c_fc(x)))."""

    def __init__(self, spec: GPT2Spec) -> None:
        self.c_fc = Projection(spec.hidden_size, spec.intermediate_size)
        self.c_proj = Projection(spec.intermediate_size, spec.hidden_size)
        self.activation = spec.activation
        self.dropout = Dropout(spec.residual_dropout)

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, C)."""
        mixed = self.dropout(self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x))))
        return mixed


class GPT2Block(nnx.Module):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, spec: GPT2Spec) -> None:
        self.ln_1 = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.attn = GPT2Attention(spec)
        self.ln_2 = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.mlp = GPT2MLP(spec)

    def __call__(
        self, x: Array, mask: Array, cache: Cache | None, layer: int, eager: bool
    ) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the attention weights where eager."""
        mixed, weights = self.attn(self.ln_1(x), mask, cache, layer, eager)
        x = x + mixed
        return x + self.mlp(self.ln_2(x)), weights


class FlaxGPT2Model(PreTrainedModel):
    """GPT-2 without a head: token ids to hidden states."""

    spec: GPT2Spec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        spec = self.spec
        self.wte = Embedding(spec.vocab_size, spec.hidden_size)
        self.wpe = Embedding(spec.max_positions, spec.hidden_size)
        self.drop = Dropout(spec.embedding_dropout)
        self.h = stack(spec.num_layers, lambda: GPT2Block(spec))
        self.ln_f = LayerNorm(spec.hidden_size, spec.norm_eps)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
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
            token_type_ids: (B, T), looked up among the words; nothing is added where absent.
            position_ids: (B, T); counted from the cached tokens on where absent. Without a mask and a cache, a new sequence
                starts wherever they do not go up by one, and sees none before it.
            past_key_values: The cache of earlier tokens; the extended one is returned.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            use_cache: Return a cache.
            output_attentions: Return the weights of each layer, (B, H, T, S).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, C), `past_key_values`, `hidden_states`, `attentions`.
        """
        x = self.embed(self.wte, input_ids, inputs_embeds)
        cache = past_key_values
        if cache is None and self.wants("use_cache", use_cache):
            cache = Cache()
        tokens = x.shape[1]
        seen = cache.get_seq_length() if cache is not None else 0
        keys = cache.get_size() if cache is not None and cache.length is not None else seen + tokens
        packed = None
        if position_ids is None:
            position_ids = (seen + jnp.arange(tokens))[None]
        elif attention_mask is None and cache is None:
            packed = packed_sequences(position_ids)
        x = x + self.wpe(position_ids)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids)
        x = self.drop(x)
        mask = causal_mask(
            attention_mask, seen=seen, queries=tokens, keys=keys, packed=packed, causal=self.spec.causal
        )
        want_weights = self.wants("output_attentions", output_attentions)
        eager = want_weights or self.attn_implementation == "eager"
        states, weights = [x], []
        for index, block in enumerate(self.h):
            x, attended = block(x, mask, cache, index, eager)
            states.append(x)
            weights.append(attended)
        if cache is not None:
            cache.advance(tokens)
        x = self.ln_f(x)
        states[-1] = x  # the last state is the normalised one
        return self.result(
            return_dict,
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


HEADS = {
    "CausalLM": ForCausalLM,
    "SequenceClassification": ForLastTokenClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS, prefix="Flax")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
