"""Attention: grouped heads, windows, soft caps, sinks, biases, norms of queries and keys, rotation, growth, cache; to an encoder too.

B batch, T query tokens, S key tokens, M tokens of an encoder, H heads, K key-value heads, D head size, C hidden size.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures import AttentionNames, AttentionSpec, GrowthSpec, LayerSpec, leaf, owner
from loadstone_tensorflow.blocks.feedforward import Output
from loadstone_tensorflow.blocks.run import Context, part, place
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Dropout, Layer, Linear, Projection, norm, parameter, sizes

Tensor: TypeAlias = tf.Tensor


class Attention(Layer):
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
            place(self, names.sinks, parameter(spec.num_heads))
        if names.dropout:
            place(self, names.dropout, Dropout(spec.output_dropout))

    def call(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
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
        spec, names = self.spec, self.names
        if names.qkv:
            keys = spec.num_kv_heads * spec.head_dim
            made = part(self, names.qkv)(x)
            q, k, v = tf.split(made, (spec.num_heads * spec.head_dim, keys, keys), axis=-1)
        else:
            q, k, v = part(self, names.query)(x), part(self, names.key)(x), part(self, names.value)(x)
        if spec.qk_norm_whole:
            q, k = part(self, names.query_norm)(q), part(self, names.key_norm)(k)
        q, k, v = split_heads(q, spec.head_dim), split_heads(k, spec.head_dim), split_heads(v, spec.head_dim)
        if spec.qk_norm is not None and not spec.qk_norm_whole:
            q, k = part(self, names.query_norm)(q), part(self, names.key_norm)(k)
        return q, k, v

    def _rotated(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate the first channels of each head (B, H, T, D) by their positions."""
        rope, size = self.spec.rope, self.spec.head_dim
        interleaved = rope is not None and rope.interleaved
        if self.turned == size:
            return rotate(x, cos, sin, interleaved=interleaved)
        first, rest = tf.split(x, (self.turned, size - self.turned), axis=-1)
        return tf.concat((rotate(first, cos, sin, interleaved=interleaved), rest), axis=-1)

    def _mixed(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, context: Context
    ) -> tuple[Tensor, Tensor | None]:
        """Attend and project back: (B, T, C), and the weights (B, H, T, S) where eager."""
        spec, names = self.spec, self.names
        mixed, weights = attention(
            q,
            k,
            v,
            mask,
            scale=spec.scale,
            bias=context.bias,
            sinks=part(self, names.sinks).value if names.sinks else None,
            dropout=spec.dropout if context.training else 0.0,
            softcap=spec.softcap,
        )
        mixed = merge_heads(mixed)  # (B, T, H*D)
        if names.output:
            mixed = part(self, names.output)(mixed)
        if names.dropout:
            mixed = part(self, names.dropout)(mixed, context.training)
        return mixed, weights if context.eager else None


class CrossAttention(Attention):
    """Attention of tokens to the states of an encoder, whose keys and values a cache holds once and for all."""

    def call(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, M) where eager."""
        spec, names, cache = self.spec, self.names, context.cache
        q = split_heads(part(self, names.query)(x), spec.head_dim)  # (B, H, T, D)
        held = cache.memory.get(context.layer) if cache is not None else None
        k, v = held or (
            split_heads(part(self, name)(context.memory), spec.head_dim)  # (B, K, M, D)
            for name in (names.key, names.value)
        )
        if cache is not None:
            cache.memory[context.layer] = k, v
        return self._mixed(q, k, v, context.memory_mask, context._replace(bias=None))


class NestedAttention(Layer):
    """Attention as BERT's checkpoints nest it: one layer mixes, another projects back."""

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

    def call(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        mixed, weights = part(self, self.inner)(x, context)
        return part(self, self.outer)(mixed, x, context.training), weights


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False) -> Tensor:
    """Rotate `x` (B, H, T, R) by the angles whose cosines and sines are given; a pair lies in both halves, or side by side."""
    if interleaved:
        turned = tf.reshape(tf.stack((-x[..., 1::2], x[..., ::2]), axis=-1), sizes(x))
    else:
        first, second = tf.split(x, 2, axis=-1)
        turned = tf.concat((-second, first), axis=-1)
    return x * cos + turned * sin


def grown(growth: GrowthSpec, position_ids: Tensor, dtype: tf.DType) -> Tensor:
    """Return what the queries of tokens at some positions (B, T) are multiplied by, (B, 1, T, 1)."""
    spans = tf.floor(tf.cast(position_ids, tf.float32) / growth.span)
    return tf.cast(1 + growth.rate * tf.math.log(1 + spans), dtype)[:, None, :, None]


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """(B, T, H*D) -> (B, H, T, D)."""
    batch, tokens, width = sizes(x)
    return tf.transpose(tf.reshape(x, (batch, tokens, width // head_dim, head_dim)), (0, 2, 1, 3))


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H*D)."""
    batch, heads, tokens, head_dim = sizes(x)
    return tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (batch, tokens, heads * head_dim))


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
) -> tuple[Tensor, Tensor]:
    """Attend: softmax(q k' * scale + bias + mask) v.

    Args:
        q: (B, H, T, D).
        k: (B, K, S, D); K divides H.
        v: (B, K, S, D).
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        scale: Factor on the scores.
        bias: Added to them, (B or 1, H, T or 1, S).
        sinks: A score for each head that no key gets, (H,).
        dropout: Probability of dropping a weight.
        softcap: Bounds scores smoothly.

    Returns:
        The mix (B, H, T, D), and the weights (B, H, T, S).
    """
    batch, heads, queries, head_dim = sizes(q)
    groups, keys = sizes(k)[1:3]
    # The H / K heads that share keys are neighbours: side by side they are one longer list of queries.
    grouped = tf.reshape(q, (batch, groups, -1, head_dim))  # (B, K, H/K*T, D)
    scores = tf.matmul(tf.cast(grouped, tf.float32), tf.cast(k, tf.float32), transpose_b=True) * scale
    scores = tf.reshape(scores, (batch, heads, queries, keys))  # (B, H, T, S)
    if bias is not None:
        scores = scores + tf.cast(bias, scores.dtype)
    if softcap is not None:
        scores = softcap * tf.tanh(scores / softcap)
    if mask is not None:
        scores = tf.where(mask, scores, scores.dtype.min)
    if sinks is not None:
        sunk = tf.broadcast_to(tf.cast(sinks, scores.dtype)[:, None, None], (batch, heads, queries, 1))
        scores = tf.concat((scores, sunk), axis=-1)
    weights = tf.cast(tf.nn.softmax(scores), q.dtype)
    weights = Dropout(dropout)(weights if sinks is None else weights[..., :-1], training=True)
    mixed = tf.matmul(tf.reshape(weights, (batch, groups, -1, keys)), v)  # (B, K, H/K*T, D)
    return tf.reshape(mixed, (batch, heads, queries, head_dim)), weights
