"""Attention: grouped heads, windows, soft caps, sinks, biases, norms of queries and keys, rotation, growth, cache; to an encoder too.

B batch, T query tokens, S key tokens, M tokens of an encoder, H heads, K key-value heads, G queries per key head, D head size,
C hidden size.
Heads lie behind tokens, (B, T, H, D), as JAX has them: splitting and merging them moves nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures import AttentionNames, AttentionSpec, GrowthSpec, LayerSpec, leaf, owner
from loadstone_flax.blocks.feedforward import Output
from loadstone_flax.blocks.run import Context, part_of, place
from loadstone_flax.layers import Dropout, Linear, Projection, contract, contract_wide, norm, parameter


class Attention(nnx.Module):
    """Attention of tokens to tokens: `output(softmax(q k' * scale + mask) v)`."""

    def __init__(self, spec: AttentionSpec, names: AttentionNames, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where its parts are, relative to it; without `output` it does not project back.
            hidden_size: Channels that it reads.
        """
        self.spec, self.names = spec, names
        self.dropout = Dropout(spec.dropout)
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
            place(self, names.sinks, parameter(spec.num_heads))
        if names.dropout:
            place(self, names.dropout, Dropout(spec.output_dropout))

    def __call__(self, x: Array, context: Context) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        q, k, v = self._projected(x)
        if context.rotary is not None:
            q, k = self._rotated(q, *context.rotary), self._rotated(k, *context.rotary)
        if context.growth is not None:
            q = q * context.growth
        if context.cache is not None:
            k, v = context.cache.update(k, v, context.layer)  # (B, S, K, D)
        return self._mixed(q, k, v, context.mask, context)

    def _projected(self, x: Array) -> tuple[Array, Array, Array]:
        """(B, T, C) -> queries (B, T, H, D), keys and values (B, T, K, D)."""
        spec, names, parts = self.spec, self.names, part_of(self)
        if names.qkv:
            queries, keys = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
            q, k, v = jnp.split(parts[names.qkv](x), (queries, queries + keys), axis=-1)
        else:
            q, k, v = parts[names.query](x), parts[names.key](x), parts[names.value](x)
        if spec.qk_norm_whole:
            q, k = parts[names.query_norm](q), parts[names.key_norm](k)
        q, k, v = split_heads(q, spec.head_dim), split_heads(k, spec.head_dim), split_heads(v, spec.head_dim)
        if spec.qk_norm is not None and not spec.qk_norm_whole:
            q, k = parts[names.query_norm](q), parts[names.key_norm](k)
        return q, k, v

    def _rotated(self, x: Array, cos: Array, sin: Array) -> Array:
        """Rotate the first channels of each head (B, T, H, D) by their positions."""
        rope = self.spec.rope
        assert rope is not None
        if rope.rotated == self.spec.head_dim:
            return rotate(x, cos, sin, interleaved=rope.interleaved)
        first, rest = jnp.split(x, (rope.rotated,), axis=-1)
        return jnp.concatenate((rotate(first, cos, sin, interleaved=rope.interleaved), rest), axis=-1)

    def _mixed(
        self, q: Array, k: Array, v: Array, mask: Array | None, context: Context
    ) -> tuple[Array, Array | None]:
        """Attend and project back: (B, T, C), and the weights (B, H, T, S) where eager."""
        spec, names, parts = self.spec, self.names, part_of(self)
        mixed, weights = attention(
            q,
            k,
            v,
            mask,
            scale=spec.scale,
            bias=context.bias,
            sinks=parts[names.sinks][...] if names.sinks else None,
            dropout=self.dropout,
            softcap=spec.softcap,
            eager=context.eager,
        )
        mixed = merge_heads(mixed)  # (B, T, H*D)
        if names.output:
            mixed = parts[names.output](mixed)
        return parts[names.dropout](mixed) if names.dropout else mixed, weights


class CrossAttention(Attention):
    """Attention of tokens to the states of an encoder, whose keys and values a cache holds once and for all."""

    def __call__(self, x: Array, context: Context) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, M) where eager."""
        spec, names, parts, cache = self.spec, self.names, part_of(self), context.cache
        q = split_heads(parts[names.query](x), spec.head_dim)  # (B, T, H, D)
        held = cache.memory.get(context.layer) if cache is not None else None
        k, v = held or (
            split_heads(parts[name](context.memory), spec.head_dim)  # (B, M, K, D)
            for name in (names.key, names.value)
        )
        if cache is not None:
            cache.memory[context.layer] = k, v
        return self._mixed(q, k, v, context.memory_mask, context._replace(bias=None))


class NestedAttention(nnx.Module):
    """Attention as BERT's checkpoints nest it: one module mixes, another projects back."""

    def __init__(self, spec: LayerSpec, names: AttentionNames, hidden_size: int) -> None:
        """Build it; the arguments are those of `Attention`, names relative to the layer."""
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

    def __call__(self, x: Array, context: Context) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        parts = part_of(self)
        mixed, weights = parts[self.inner](x, context)
        return parts[self.outer](mixed, x), weights


def rotate(x: Array, cos: Array, sin: Array, *, interleaved: bool = False) -> Array:
    """Rotate `x` (B, T, H, R) by the angles whose cosines and sines are given; a pair lies in both halves, or side by side."""
    if interleaved:
        turned = jnp.stack((-x[..., 1::2], x[..., ::2]), axis=-1).reshape(x.shape)
    else:
        first, second = jnp.split(x, 2, axis=-1)
        turned = jnp.concatenate((-second, first), axis=-1)
    return x * cos + turned * sin


def grown(growth: GrowthSpec, position_ids: Array, dtype: jnp.dtype) -> Array:
    """Return what the queries of tokens at some positions (B, T) are multiplied by, (B, T, 1, 1)."""
    spans = jnp.floor(position_ids.astype(jnp.float32) / growth.span)
    return (1 + growth.rate * jnp.log(1 + spans))[:, :, None, None].astype(dtype)


def split_heads(x: Array, head_dim: int) -> Array:
    """(B, T, H*D) -> (B, T, H, D)."""
    return x.reshape(*x.shape[:-1], -1, head_dim)


def merge_heads(x: Array) -> Array:
    """(B, T, H, D) -> (B, T, H*D)."""
    return x.reshape(*x.shape[:-2], -1)


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    *,
    scale: float,
    dropout: Dropout,
    bias: Array | None = None,
    sinks: Array | None = None,
    softcap: float | None = None,
    eager: bool = False,
) -> tuple[Array, Array | None]:
    """Attend: softmax(q k' * scale + bias + mask) v, with scores in float32 and sums accumulated in it.

    Args:
        q: (B, T, H, D).
        k: (B, S, K, D); K divides H.
        v: (B, S, K, D).
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        scale: Factor on the scores.
        dropout: Drops weights.
        bias: Added to them, (B or 1, H, T or 1, S).
        sinks: A score for each head that no key gets, (H,).
        softcap: Bounds scores smoothly.
        eager: Return the weights too.

    Returns:
        The mix (B, T, H, D), and the weights (B, H, T, S) where eager.
    """
    batch, queries, heads, head_dim = q.shape
    grouped = q.reshape(batch, queries, k.shape[2], -1, head_dim)  # (B, T, K, G, D)
    scores = contract_wide("btkgd,bskd->bkgts", grouped, k) * scale
    scores = scores.reshape(batch, heads, queries, -1)  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    if sinks is not None:
        sunk = jnp.broadcast_to(sinks[:, None, None], (*scores.shape[:3], 1)).astype(scores.dtype)
        scores = jnp.concatenate((scores, sunk), axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
    weights = dropout(weights if sinks is None else weights[..., :-1])
    grouped = weights.reshape(batch, k.shape[2], -1, *weights.shape[2:])  # (B, K, G, T, S)
    mixed = contract("bkgts,bskd->btkgd", grouped, v)
    return mixed.reshape(q.shape), weights if eager else None
