"""What is added to attention scores for the distance of two tokens.

B batch, T query tokens, S key tokens, H heads.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from loadstone.architectures import BucketSpec, alibi_slopes
from loadstone_flax.layers import parameter


def alibi(num_heads: int, padding: Array, dtype: DTypeLike) -> Array:
    """Return ALiBi's bias: padding (B, S), zero where a key is padding -> (B, H, 1, S).

    It counts the position of a key and not its distance to the query, which softmax cannot tell apart.
    """
    slopes = jnp.asarray(alibi_slopes(num_heads), jnp.float32)
    positions = (padding.cumsum(-1) - 1) * padding
    return (slopes[:, None, None] * positions[:, None, None, :]).astype(dtype)


class RelativeBias(nnx.Module):
    """A learned bias for each head and bucket of relative positions."""

    def __init__(self, spec: BucketSpec, num_heads: int) -> None:
        """Build it."""
        self.spec = spec
        self.weight = parameter(spec.buckets, num_heads)

    def __call__(self, queries: int, keys: int, seen: int | Array | None = None) -> Array:
        """Return the bias of the last `queries` among `keys` tokens, or of those after `seen` of them, (1, H, T, S)."""
        first = keys - queries if seen is None else seen
        distance = jnp.arange(keys) - (first + jnp.arange(queries))[:, None]  # (T, S)
        reach = self.spec.max_distance
        buckets = jnp.asarray(self.spec.table)[distance.clip(-reach, reach) + reach]
        return self.weight[...][buckets].transpose(2, 0, 1)[None]
