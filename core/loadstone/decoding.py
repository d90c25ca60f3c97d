"""The loop of `generate`: one token after the other, until every sequence has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from loadstone.generation import Generation
from loadstone.sampling import Sampler

Array = np.ndarray[Any, Any]
NextLogits = Callable[[Array, Array], Array]
"""(ids (B, T), mask (B, T)) -> logits (B, V) that follow the last token; what was passed before may be cached."""


class Streamer(Protocol):
    """Gets tokens as they are made: transformers' `TextStreamer` is one."""

    def put(self, value: Any) -> object:
        """Take the prompts (B, T), then the next token (B,) of each sequence."""

    def end(self) -> object:
        """Learn that there is no more."""


def decode(
    next_logits: NextLogits,
    ids: Array,
    mask: Array | None,
    plan: Generation,
    *,
    streamer: Streamer | None = None,
) -> Array:
    """Continue prompts.

    Args:
        next_logits: Runs the model.
        ids: (B, T) prompts, padded on the left.
        mask: (B, T), zero at padding; None: nothing is padding.
        plan: The resolved call.
        streamer: Gets tokens as they are made.

    Returns:
        (B, T + new) prompts and continuations; sequences that ended early are filled with the pad token.
    """
    prompt = ids.shape[1]
    mask = np.ones_like(ids) if mask is None else mask.astype(ids.dtype)
    sampler, running = Sampler(plan), np.ones(len(ids), bool)
    if streamer is not None:
        streamer.put(ids)
    for _ in range(plan.max_new_tokens):
        chosen = sampler.choose(next_logits(ids, mask), ids)
        chosen = np.where(running, chosen, plan.pad_token_id).astype(ids.dtype)
        ids = np.concatenate((ids, chosen[:, None]), axis=1)
        mask = np.concatenate((mask, np.ones_like(mask[:, :1])), axis=1)
        if streamer is not None:
            streamer.put(chosen)
        running &= ~_ended(ids[:, prompt:], plan)
        if not running.any():
            break
    if streamer is not None:
        streamer.end()
    return ids


def _ended(new: Array, plan: Generation) -> Array:
    """Return which sequences end with their last token, or have just completed a stop string."""
    ended = np.isin(new[:, -1], plan.eos_token_ids)
    if plan.stop_strings:
        texts = [plan.to_text(row.tolist()) for row in new]
        ended |= np.array([any(stop in text for stop in plan.stop_strings) for text in texts])
    return ended


def positions(mask: Array) -> Array:
    """Return each token's position (B, T): how many tokens that are not padding precede it."""
    return (mask.cumsum(-1) - 1).clip(min=0)
