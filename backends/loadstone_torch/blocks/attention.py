"""Attention: grouped heads, windows, soft caps, sinks, biases, norms of queries and keys, rotation, growth, cache; to an encoder too.

B batch, T query tokens, S key tokens, M tokens of an encoder, H heads, K key-value heads, D head size, C hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import AttentionNames, AttentionSpec, GrowthSpec, LayerSpec, leaf, owner
from loadstone_torch.blocks.feedforward import Output
from loadstone_torch.blocks.run import Context, part_of, place
from loadstone_torch.layers import Linear, Projection, norm, parameter


class Attention(nn.Module):
    """Attention of tokens to tokens: `output(softmax(q k' * scale + mask) v)`."""

    def __init__(self, spec: AttentionSpec, names: AttentionNames, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where its parts are, relative to it; without `output` it does not project back.
            hidden_size: Channels that it reads.
        """
        super().__init__()
        self.spec, self.names = spec, names
        self.turned = spec.rope.rotated if spec.rope is not None else 0
        linear = Projection if spec.transposed else Linear
        queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        if names.qkv:
            place(self, names.qkv, linear(hidden_size, queries + 2 * keys, spec.bias))
        else:
            place(self, names.query, linear(hidden_size, queries, spec.bias))
            place(self, names.key, linear(hidden_size, keys, spec.bias))
            place(self, names.value, linear(hidden_size, keys, spec.bias))
        if names.output:
            place(self, names.output, linear(queries, hidden_size, spec.output_bias))
        if spec.qk_norm is not None:
            whole = spec.qk_norm_whole
            place(self, names.query_norm, norm(spec.qk_norm, queries if whole else spec.head_dim))
            place(self, names.key_norm, norm(spec.qk_norm, keys if whole else spec.head_dim))
        if names.sinks:
            self.register_parameter(names.sinks, parameter(spec.num_heads))
        if names.dropout:
            place(self, names.dropout, nn.Dropout(spec.output_dropout))

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        q, k, v = self._projected(x)
        if context.rotary is not None:
            q, k = self._rotated(q, *context.rotary), self._rotated(k, *context.rotary)
        if context.growth is not None:
            q = q * context.growth
        if context.cache is not None:
            k, v = context.cache.update(k, v, context.layer)  # (B, K, S, D)
        return self._mixed(q, k, v, context.mask, context)

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> queries (B, H, T, D), keys and values (B, K, T, D)."""
        spec, names, parts = self.spec, self.names, part_of(self)
        if names.qkv:
            keys = spec.num_kv_heads * spec.head_dim
            q, k, v = parts[names.qkv](x).split((spec.num_heads * spec.head_dim, keys, keys), dim=-1)
        else:
            q, k, v = parts[names.query](x), parts[names.key](x), parts[names.value](x)
        if spec.qk_norm_whole:
            q, k = parts[names.query_norm](q), parts[names.key_norm](k)
        q, k, v = split_heads(q, spec.head_dim), split_heads(k, spec.head_dim), split_heads(v, spec.head_dim)
        if spec.qk_norm is not None and not spec.qk_norm_whole:
            q, k = parts[names.query_norm](q), parts[names.key_norm](k)
        return q, k, v

    def _rotated(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate the first channels of each head (B, H, T, D) by their positions."""
        rope, size = self.spec.rope, self.spec.head_dim
        interleaved = rope is not None and rope.interleaved
        if self.turned == size:
            return rotate(x, cos, sin, interleaved=interleaved)
        first, rest = x.split((self.turned, size - self.turned), dim=-1)
        return torch.cat((rotate(first, cos, sin, interleaved=interleaved), rest), dim=-1)

    def _mixed(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, context: Context
    ) -> tuple[Tensor, Tensor | None]:
        """Attend and project back: (B, T, C), and the weights (B, H, T, S) where eager."""
        spec, names, parts = self.spec, self.names, part_of(self)
        mixed, weights = attention(
            q,
            k,
            v,
            mask,
            scale=spec.scale,
            bias=context.bias,
            sinks=getattr(self, names.sinks) if names.sinks else None,
            dropout=spec.dropout if self.training else 0.0,
            softcap=spec.softcap,
            eager=context.eager,
        )
        mixed = merge_heads(mixed)  # (B, T, H*D)
        if names.output:
            mixed = parts[names.output](mixed)
        return parts[names.dropout](mixed) if names.dropout else mixed, weights


class CrossAttention(Attention):
    """Attention of tokens to the states of an encoder, whose keys and values a cache holds once and for all."""

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, M) where eager."""
        spec, names, cache = self.spec, self.names, context.cache
        q = split_heads(getattr(self, names.query)(x), spec.head_dim)  # (B, H, T, D)
        held = cache.memory.get(context.layer) if cache is not None else None
        k, v = held or (
            split_heads(getattr(self, name)(context.memory), spec.head_dim)  # (B, K, M, D)
            for name in (names.key, names.value)
        )
        if cache is not None:
            cache.memory[context.layer] = k, v
        return self._mixed(q, k, v, context.memory_mask, context._replace(bias=None))


class NestedAttention(nn.Module):
    """Attention as BERT's checkpoints nest it: one module mixes, another projects back."""

    def __init__(self, spec: LayerSpec, names: AttentionNames, hidden_size: int) -> None:
        """Build it; the arguments are those of `Attention`, names relative to the layer."""
        super().__init__()
        self.inner, self.outer = leaf(owner(names.query)), leaf(owner(names.output))
        inner, outer = names.within(owner(names.query)), names.within(owner(names.output))
        place(self, self.inner, Attention(spec.attention, inner, hidden_size))
        mixed = spec.attention.num_heads * spec.attention.head_dim
        output = Output(
            mixed,
            hidden_size,
            dense=outer.output,
            bias=spec.attention.output_bias,
            dropout=(outer.dropout, spec.attention.output_dropout),
            after=(outer.after, spec.norm),
        )
        place(self, self.outer, output)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        parts = part_of(self)
        mixed, weights = parts[self.inner](x, context)
        return parts[self.outer](mixed, x), weights


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False) -> Tensor:
    """Rotate `x` (B, H, T, R) by the angles whose cosines and sines are given; a pair lies in both halves, or side by side."""
    if interleaved:
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    else:
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
    return x * cos + turned * sin


def grown(growth: GrowthSpec, position_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what the queries of tokens at some positions (B, T) are multiplied by, (B, 1, T, 1)."""
    factor = 1 + growth.rate * torch.log(1 + torch.floor(position_ids / growth.span))
    return factor[:, None, :, None].to(dtype)


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """(B, T, H*D) -> (B, H, T, D)."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H*D)."""
    return x.transpose(1, 2).flatten(2)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    bias: Tensor | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    eager: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attend: softmax(q k' * scale + bias + mask) v.

    Args:
        q: (B, H, T, D).
        k: (B, K, S, D); K divides H.
        v: (B, K, S, D).
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere. Where a cache of transformers has
            dropped keys that lie before the window, the mask may speak of more than S keys: the last S count.
        scale: Factor on the scores.
        bias: Added to them, (B or 1, H, T or 1, S).
        sinks: A score for each head that no key gets, (H,); always computed eagerly.
        dropout: Probability of dropping a weight.
        softcap: Bounds scores smoothly; always computed eagerly.
        eager: Compute the weights and return them.

    Returns:
        The mix (B, H, T, D), and the weights (B, H, T, S) where eager.
    """
    if mask is not None and mask.shape[-1] > k.shape[2]:
        mask = mask[..., -k.shape[2] :]
    if not eager and softcap is None and sinks is None:
        if bias is not None:
            mask = bias if mask is None else bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
        grouped = bool(q.shape[1] != k.shape[1])  # torch.jit.trace compares sizes to a tensor
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale, enable_gqa=grouped
        )
        return mixed, None
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)  # (B, H, S, D)
    scores = q @ k.transpose(-1, -2) * scale  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        sunk = sinks[:, None, None].expand(*scores.shape[:3], 1)  # (B, H, T, 1)
        scores = torch.cat((scores, sunk), dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    weights = F.dropout(weights if sinks is None else weights[..., :-1], dropout)
    return weights @ v, weights
