"""Masks: where each token may look.

B batch, T query tokens, S key tokens.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.model.pretrained import check_mask
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Size

Tensor: TypeAlias = tf.Tensor


def packed_sequences(position_ids: Tensor) -> Tensor:
    """Return which of the sequences that a row holds one after the other each token belongs to, (B, T), counted from 0.

    A sequence starts wherever positions do not go up by one, as in transformers.
    """
    position_ids = tf.cast(position_ids, tf.int32)
    before = tf.concat((position_ids[:, :1] - 1, position_ids[:, :-1]), axis=1)
    return tf.cumsum(tf.cast(position_ids - before != 1, tf.int32), axis=-1)


def causal_mask(
    padding: Tensor | None,
    *,
    first: Size,
    queries: Size,
    keys: Size,
    window: int | None = None,
    packed: Tensor | None = None,
    causal: bool = True,
) -> Tensor:
    """Return where each of `queries` tokens may look among `keys` tokens.

    Args:
        padding: (B, S), zero where a key is padding, or None.
        first: Place of the first query among the keys.
        queries: T.
        keys: S; those after the last query are invisible, so that they may be slots not yet filled.
        window: How many tokens back a query sees, itself included, or None.
        packed: (B, T), the sequence of each token, where a row holds several; nothing is cached or padded then.
        causal: False: a query sees the keys after it too; of a window, that many tokens on both sides beside itself.

    Returns:
        True where it may look, (B or 1, 1, T, S).
    """
    key = tf.range(keys)
    query = (tf.range(queries) + first)[:, None]
    allowed = key <= (query if causal else query[-1:])  # (T or 1, S)
    if window is not None:
        allowed = allowed & (key > query - window if causal else tf.abs(key - query) <= window)
    if packed is not None and causal:
        return (allowed & (packed[:, :, None] == packed[:, None, :]))[:, None]
    if padding is None:
        return allowed[None, None]
    _check_fits(padding, keys)
    seen = allowed & tf.cast(padding, tf.bool)[:, None, :]  # (B, T, S)
    # Padding before the first token would see nothing, and so everything alike: it sees itself.
    return (seen | ~tf.reduce_any(seen, axis=-1, keepdims=True) & (key == query))[:, None]


def padding_mask(padding: Tensor | None, keys: Size) -> Tensor | None:
    """(B, S), zero where one of S keys is padding -> True where any query may look, (B, 1, 1, S); None stays None."""
    if padding is None:
        return None
    _check_fits(padding, keys)
    return tf.expand_dims(
        tf.expand_dims(tf.cast(padding, tf.bool), 1), 1
    )  # TFLite knows it, and no `[:, None]`


def _check_fits(padding: Tensor, keys: Size) -> None:
    check_mask(padding.shape.as_list(), (None, keys if isinstance(keys, int) else None))
