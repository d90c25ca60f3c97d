"""Masks: where each token may look.

B batch, T query tokens, S key tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from loadstone.model.pretrained import check_mask


def packed_sequences(position_ids: Tensor) -> Tensor:
    """Return which of the sequences that a row holds one after the other each token belongs to, (B, T), counted from 0.

    A sequence starts wherever positions do not go up by one, as in transformers.
    """
    steps = position_ids.diff(dim=-1, prepend=position_ids[:, :1] - 1)
    return (steps != 1).cumsum(-1)


def causal_mask(
    padding: Tensor | None,
    *,
    queries: int,
    keys: int,
    device: torch.device,
    window: int | None = None,
    packed: Tensor | None = None,
    causal: bool = True,
) -> Tensor | None:
    """Return where each of the last `queries` tokens may look among `keys` tokens.

    Args:
        padding: (B, S), zero where a key is padding, or None.
        queries: T.
        keys: S; the queries are the last T of them.
        device: Where to put the mask.
        window: How many tokens back a query sees, itself included, or None.
        packed: (B, T), the sequence of each token, where a row holds several; nothing is cached or padded then.
        causal: False: a query sees the keys after it too; of a window, that many tokens on both sides beside itself.

    Returns:
        True where it may look, (B or 1, 1, T, S), or None where every query may look everywhere.
    """
    if (queries == 1 or not causal) and padding is None and (window is None or keys <= window):
        return None
    key = torch.arange(keys, device=device)
    query = key[keys - queries :, None]
    allowed = key <= (query if causal else query[-1:])  # (T or 1, S)
    if window is not None:
        allowed = allowed & (key > query - window if causal else (key - query).abs() <= window)
    if packed is not None and causal:
        return (allowed & (packed[:, :, None] == packed[:, None, :]))[:, None]
    if padding is None:
        return allowed[None, None]
    check_mask(padding.shape, (None, keys))
    seen = allowed & padding[:, None, :].bool()  # (B, T, S)
    # Padding before the first token would see nothing, and an empty softmax is not a number: it sees itself.
    return (seen | ~seen.any(-1, keepdim=True) & (key == query))[:, None]


def padding_mask(padding: Tensor | None, keys: int) -> Tensor | None:
    """(B, S), zero where one of S keys is padding -> True where any query may look, (B, 1, 1, S); None stays None."""
    if padding is None:
        return None
    check_mask(padding.shape, (None, keys))
    return padding[:, None, None, :].bool()
