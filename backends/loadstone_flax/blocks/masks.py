"""Masks: where each token may look.

B batch, T query tokens, S key tokens.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def packed_sequences(position_ids: Array) -> Array:
    """Return which of the sequences that a row holds one after the other each token belongs to, (B, T), counted from 0.

    A sequence starts wherever positions do not go up by one, as in transformers.
    """
    steps = jnp.diff(position_ids, axis=-1, prepend=position_ids[:, :1] - 1)
    return (steps != 1).cumsum(-1)


def causal_mask(
    padding: Array | None,
    *,
    seen: int | Array,
    queries: int,
    keys: int,
    window: int | None = None,
    packed: Array | None = None,
    causal: bool = True,
) -> Array:
    """Return where each of `queries` tokens may look among `keys` tokens.

    Args:
        padding: (B, S), zero where a key is padding, or None.
        seen: How many keys precede the first query.
        queries: T.
        keys: S; those behind the last query are slots of a cache that are still empty.
        window: How many tokens back a query sees, itself included, or None.
        packed: (B, T), the sequence of each token, where a row holds several; nothing is cached or padded then.
        causal: False: a query sees the keys after it too; of a window, that many tokens on both sides beside itself.

    Returns:
        True where it may look, (B or 1, 1, T, S).
    """
    key = jnp.arange(keys)
    query = (seen + jnp.arange(queries))[:, None]
    allowed = key <= (query if causal else query[-1:])  # (T or 1, S)
    if window is not None:
        allowed = allowed & (key > query - window if causal else jnp.abs(key - query) <= window)
    if packed is not None and causal:
        return (allowed & (packed[:, :, None] == packed[:, None, :]))[:, None]
    if padding is None:
        return allowed[None, None]
    visible = allowed & padding[:, None, :].astype(bool)  # (B, T, S)
    # Padding before the first token would see nothing, and so everything alike: it sees itself.
    return (visible | ~visible.any(-1, keepdims=True) & (key == query))[:, None]


def padding_mask(padding: Array | None) -> Array | None:
    """(B, S), zero where a key is padding -> True where any query may look, (B, 1, 1, S); None stays None."""
    return None if padding is None else padding[:, None, None, :].astype(bool)
