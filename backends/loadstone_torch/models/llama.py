"""Llama in PyTorch, and the decoders that share its shape: what sets them apart is in the spec.

B batch, T query tokens, S key tokens, H heads, K key-value heads, D head size, C hidden size, V vocabulary.
Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loadstone.architectures import DecoderSpec
from loadstone.architectures.llama import ARCHITECTURES
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_torch.generation import Cache, check_cache
from loadstone_torch.heads import (
    ForCausalLM,
    ForLastTokenClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)
from loadstone_torch.layers import (
    ACTIVATIONS,
    Embedding,
    Linear,
    RMSNorm,
    RotaryEmbedding,
    attention,
    causal_mask,
    merge_heads,
    packed_sequences,
    rotate,
    split_heads,
)
from loadstone_torch.modeling import PreTrainedModel
from loadstone_torch.recompute import Layer


class LlamaMLP(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.gate_proj = Linear(spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        self.up_proj = Linear(spec.hidden_size, spec.intermediate_size, bias=spec.mlp_bias)
        self.down_proj = Linear(spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        mixed: Tensor = self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
        return mixed


class LlamaAttention(nn.Module):
    """Rotary attention with grouped keys and values."""

    def __init__(self, spec: DecoderSpec, layer: int) -> None:
        super().__init__()
        self.spec, self.layer = spec, layer
        queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        self.q_proj = Linear(spec.hidden_size, queries, bias=spec.attention_bias)
        self.k_proj = Linear(spec.hidden_size, keys, bias=spec.attention_bias)
        self.v_proj = Linear(spec.hidden_size, keys, bias=spec.attention_bias)
        self.o_proj = Linear(queries, spec.hidden_size, bias=spec.output_bias)
        if spec.qk_norm:
            self.q_norm = RMSNorm(spec.head_dim, spec.norm_eps)
            self.k_norm = RMSNorm(spec.head_dim, spec.norm_eps)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, eager: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        q = split_heads(self.q_proj(x), self.spec.head_dim)  # (B, H, T, D)
        k = split_heads(self.k_proj(x), self.spec.head_dim)  # (B, K, T, D)
        v = split_heads(self.v_proj(x), self.spec.head_dim)  # (B, K, T, D)
        if self.spec.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)  # (B, K, S, D)
        dropout = self.spec.attention_dropout if self.training else 0.0
        mixed, weights = attention(
            q,
            k,
            v,
            mask,
            scale=self.spec.attention_scale,
            dropout=dropout,
            softcap=self.spec.attention_softcap,
            eager=eager,
        )
        return self.o_proj(merge_heads(mixed)), weights


class LlamaDecoderLayer(Layer):
    """Attention and feed-forward, each normalised before, in a sandwich also after, and added to its input."""

    def __init__(self, spec: DecoderSpec, layer: int) -> None:
        super().__init__()
        self.sandwich = spec.sandwich_norms
        self.self_attn = LlamaAttention(spec, layer)
        self.mlp = LlamaMLP(spec)
        self.input_layernorm = norm(spec)
        self.post_attention_layernorm = norm(spec)
        if spec.sandwich_norms:
            self.pre_feedforward_layernorm = norm(spec)
            self.post_feedforward_layernorm = norm(spec)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, eager: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the attention weights where eager."""
        mixed, weights = self.self_attn(self.input_layernorm(x), rotary, mask, cache, eager)
        if self.sandwich:
            x = x + self.post_attention_layernorm(mixed)
            fed: Tensor = self.mlp(self.pre_feedforward_layernorm(x))
            return x + self.post_feedforward_layernorm(fed), weights
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), weights


def norm(spec: DecoderSpec) -> RMSNorm:
    """Return a norm over the hidden size."""
    return RMSNorm(spec.hidden_size, spec.norm_eps, spec.norm_offset)


class LlamaModel(PreTrainedModel):
    """The decoder without a head: token ids to hidden states."""

    spec: DecoderSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        spec = self.spec
        self.embed_tokens = Embedding(spec.vocab_size, spec.hidden_size, padding_idx=spec.pad_token_id)
        self.layers = nn.ModuleList(LlamaDecoderLayer(spec, i) for i in range(spec.num_layers))
        self.norm = norm(spec)
        self.rotary_emb = RotaryEmbedding(spec.rope)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the decoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), zero at padding; S counts the cached tokens too.
            position_ids: (B, T); counted from the cached tokens on where absent. Without a mask and a cache, a new sequence
                starts wherever they do not go up by one, and sees none before it.
            past_key_values: The cache of earlier tokens, ours or transformers' `DynamicCache`; it is extended.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            use_cache: Return a cache.
            output_attentions: Return the weights of each layer, (B, H, T, S).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, C), `past_key_values`, `hidden_states`, `attentions`.
        """
        x = self.embed(self.embed_tokens, input_ids, inputs_embeds)
        if inputs_embeds is None and self.spec.embedding_scale != 1.0:
            x = x * torch.tensor(self.spec.embedding_scale, dtype=x.dtype, device="cpu")
        cache = past_key_values
        check_cache(cache)
        if cache is None and self.wants("use_cache", use_cache):
            cache = Cache()
        seen = cache.get_seq_length() if cache is not None else 0
        keys = seen + x.shape[1]
        packed = None
        if position_ids is None:
            position_ids = torch.arange(seen, keys, device=x.device)[None]
        elif attention_mask is None and cache is None:
            packed = packed_sequences(position_ids)
        rotary = self.rotary_emb(x, position_ids)
        masks = {
            window: causal_mask(
                attention_mask,
                queries=x.shape[1],
                keys=keys,
                device=x.device,
                window=window,
                packed=packed,
                causal=self.spec.causal,
            )
            for window in set(self.spec.windows)
        }
        want_weights = self.wants("output_attentions", output_attentions)
        eager = want_weights or self.attn_implementation == "eager"
        states, weights = [x], []
        for layer, window in zip(self.layers, self.spec.windows, strict=True):
            x, attended = layer(x, rotary, masks[window], cache, eager)
            states.append(x)
            weights.append(attended)
        x = self.norm(x)
        states[-1] = x  # the last state is the normalised one
        return self.result(
            return_dict,
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class LlamaForTokenClassification(ForTokenClassification):
    """Llama with a head that classifies each token."""

    classifier_name = "score"


HEADS = {
    "CausalLM": ForCausalLM,
    "SequenceClassification": ForLastTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
