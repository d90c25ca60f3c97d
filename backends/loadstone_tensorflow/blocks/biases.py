"""What is added to attention scores for the distance of two tokens.

B batch, T query tokens, S key tokens, H heads.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures import BucketSpec, alibi_slopes
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Layer, Size, parameter

Tensor: TypeAlias = tf.Tensor


def alibi(num_heads: int, padding: Tensor, dtype: tf.DType) -> Tensor:
    """Return ALiBi's bias: padding (B, S), zero where a key is padding -> (B, H, 1, S).

    It counts the position of a key and not its distance to the query, which softmax cannot tell apart.
    """
    slopes = tf.constant(alibi_slopes(num_heads), tf.float32)
    positions = tf.cast((tf.cumsum(padding, axis=-1) - 1) * padding, tf.float32)
    return tf.cast(slopes[:, None, None] * positions[:, None, None, :], dtype)


class RelativeBias(Layer):
    """A learned bias for each head and bucket of relative positions."""

    def __init__(self, spec: BucketSpec, num_heads: int) -> None:
        """Build it."""
        super().__init__()
        self.spec = spec
        self.weight = parameter(spec.buckets, num_heads)

    def call(self, first: Size, queries: Size, keys: Size) -> Tensor:
        """Return the bias of `queries` tokens, from place `first` on, among `keys` tokens, (1, H, T, S)."""
        reach = self.spec.max_distance
        distance = tf.range(keys) - (tf.range(queries) + first)[:, None]  # (T, S)
        buckets = tf.gather(tf.constant(self.spec.table), tf.clip_by_value(distance, -reach, reach) + reach)
        bias = tf.gather(tf.convert_to_tensor(self.weight.value), buckets)  # (T, S, H)
        return tf.transpose(bias, (2, 0, 1))[None]
