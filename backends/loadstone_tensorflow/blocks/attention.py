"""Attention: grouped heads, windows, soft caps, norms of queries and keys, rotation, cache.

B batch, T query tokens, S key tokens, H heads, K key-value heads, D head size, C hidden size.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures import AttentionNames, AttentionSpec, LayerSpec, leaf, owner
from loadstone_tensorflow.blocks.feedforward import Output
from loadstone_tensorflow.blocks.run import Context, part, place
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Dropout, Layer, Linear, Projection, norm, sizes

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
            place(self, names.query_norm, norm(spec.qk_norm, spec.head_dim))
            place(self, names.key_norm, norm(spec.qk_norm, spec.head_dim))
        if names.dropout:
            place(self, names.dropout, Dropout(spec.output_dropout))

    def call(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        spec, names = self.spec, self.names
        q, k, v = self._projected(x)
        if spec.qk_norm is not None:
            q, k = part(self, names.query_norm)(q), part(self, names.key_norm)(k)
        if context.rotary is not None:
            q, k = rotate(q, *context.rotary), rotate(k, *context.rotary)
        if context.cache is not None:
            k, v = context.cache.update(k, v, context.layer)  # (B, K, S, D)
        mixed, weights = attention(
            q,
            k,
            v,
            context.mask,
            scale=spec.scale,
            dropout=spec.dropout if context.training else 0.0,
            softcap=spec.softcap,
        )
        mixed = merge_heads(mixed)  # (B, T, H*D)
        if names.output:
            mixed = part(self, names.output)(mixed)
        if names.dropout:
            mixed = part(self, names.dropout)(mixed, context.training)
        return mixed, weights if context.eager else None

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> queries (B, H, T, D), keys and values (B, K, T, D)."""
        spec, names = self.spec, self.names
        if names.qkv:
            keys = spec.num_kv_heads * spec.head_dim
            made = tf.split(part(self, names.qkv)(x), (spec.num_heads * spec.head_dim, keys, keys), axis=-1)
        else:
            made = [part(self, name)(x) for name in (names.query, names.key, names.value)]
        q, k, v = (split_heads(one, spec.head_dim) for one in made)
        return q, k, v


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
            dropout=(outer.dropout, spec.attention.output_dropout),
            after=(outer.after, spec.norm),
        )
        place(self, self.outer, output)

    def call(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, S) where eager."""
        mixed, weights = part(self, self.inner)(x, context)
        return part(self, self.outer)(mixed, x, context.training), weights


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `x` (B, H, T, D) by the angles whose cosines and sines are given."""
    first, second = tf.split(x, 2, axis=-1)
    return x * cos + tf.concat((-second, first), axis=-1) * sin


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
    dropout: float = 0.0,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend: softmax(q k' * scale + mask) v.

    Args:
        q: (B, H, T, D).
        k: (B, K, S, D); K divides H.
        v: (B, K, S, D).
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        scale: Factor on the scores.
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
    if softcap is not None:
        scores = softcap * tf.tanh(scores / softcap)
    if mask is not None:
        scores = tf.where(mask, scores, scores.dtype.min)
    weights = Dropout(dropout)(tf.cast(tf.nn.softmax(scores), q.dtype), training=True)
    mixed = tf.matmul(tf.reshape(weights, (batch, groups, -1, keys)), v)  # (B, K, H/K*T, D)
    return tf.reshape(mixed, (batch, heads, queries, head_dim)), weights
