"""What settings of `generate` make of the model's scores, in numpy: the same in every framework, token by token as transformers.

Source: transformers' `generation/logits_process.py`; repetition penalty: Keskar et al. 2019,
https://arxiv.org/abs/1909.05858.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from loadstone.errors import ArgumentError
from loadstone.generate.settings import Generation

Array = np.ndarray[Any, Any]
Processor = Callable[[Array, Array], Array]
"""(scores (B, V), ids (B, T) that precede) -> scores (B, V)."""


class Processors:
    """Makes tokens more or less likely as one call of `generate` asks.

    Args:
        call: The resolved call.
        mask: (B, T), zero at the prompts' padding: it repeats nothing.
    """

    def __init__(self, call: Generation, mask: Array) -> None:
        # Their order is transformers': what comes later has the last word.
        self._steps = list(_steps(call, mask))

    def __call__(self, logits: Array, ids: Array) -> Array:
        """Return the scores (B, V) of the next token, in float32.

        Args:
            logits: (B, V) of any float dtype.
            ids: (B, T), what precedes it, padding included.
        """
        scores, ids = logits.astype(np.float32, copy=False), ids.astype(np.int64, copy=False)
        for step in self._steps:
            scores = step(scores, ids)
        return scores


def check_left(scores: Array) -> None:
    """Raise an ArgumentError if a sequence has no token left that may follow.

    Args:
        scores: (B, V), of the sequences that go on.
    """
    if np.isneginf(scores).all(-1).any():
        raise ArgumentError(
            "the settings leave no token that may follow",
            hint="look at no_repeat_ngram_size, bad_words_ids, suppress_tokens and the forced tokens",
        )


def _steps(call: Generation, mask: Array) -> Iterator[Processor]:
    if call.repetition_penalty != 1.0:
        yield functools.partial(_penalise, padding=(mask != 0).argmax(-1), penalty=call.repetition_penalty)
    if call.no_repeat_ngram_size:
        yield functools.partial(_repeat_no_run, size=call.no_repeat_ngram_size)
    if call.bad_words:
        yield functools.partial(_say_no_word, words=call.bad_words)
    start, end = call.prompt_length, call.prompt_length + call.max_new_tokens - 1
    if call.min_new_tokens:
        yield _between(0, start + call.min_new_tokens, functools.partial(_forbid, tokens=call.eos_token_ids))
    if call.forced_bos:
        yield _between(1, 2, functools.partial(_force, tokens=call.forced_bos))
    if call.forced_eos:
        yield _between(end, end + 1, functools.partial(_force, tokens=call.forced_eos))
    if call.suppress_tokens:
        yield functools.partial(_forbid, tokens=call.suppress_tokens)
    if call.begin_suppress_tokens:
        first = start + (start == 1 and bool(call.forced_bos))  # what is forced comes before the beginning
        yield _between(first, first + 1, functools.partial(_forbid, tokens=call.begin_suppress_tokens))


def _between(start: int, end: int, processor: Processor) -> Processor:
    """Return a processor that works where `start` or more tokens precede, and fewer than `end`."""
    return lambda scores, ids: processor(scores, ids) if start <= ids.shape[1] < end else scores


def _penalise(scores: Array, ids: Array, *, padding: Array, penalty: float) -> Array:
    """Make tokens that occurred after `padding` (B,) less likely: positive scores are divided, negative ones multiplied."""
    # A column more, and cut off again, takes what padding would be penalised for.
    wide = np.pad(scores, ((0, 0), (0, 1)))
    ids = np.where(np.arange(ids.shape[1]) < padding[:, None], scores.shape[1], ids)
    seen = np.take_along_axis(wide, ids, axis=-1)
    np.put_along_axis(wide, ids, np.where(seen < 0, seen * penalty, seen / penalty), axis=-1)
    return wide[:, :-1]


def _repeat_no_run(scores: Array, ids: Array, *, size: int) -> Array:
    """Rule out each token that would complete a run of `size` tokens which occurred, in the prompt too."""
    if ids.shape[1] < size:
        return scores
    runs = np.lib.stride_tricks.sliding_window_view(ids, size, axis=1)  # (B, runs, size)
    begun = (runs[..., :-1] == ids[:, None, ids.shape[1] + 1 - size :]).all(-1)  # (B, runs)
    row, run = begun.nonzero()
    scores = scores.copy()
    scores[row, runs[row, run, -1]] = -np.inf
    return scores


def _say_no_word(scores: Array, ids: Array, *, words: Sequence[Sequence[int]]) -> Array:
    """Rule out each token that would complete a word."""
    scores = scores.copy()
    for *begin, last in words:
        if len(begin) <= ids.shape[1]:
            said = (ids[:, ids.shape[1] - len(begin) :] == np.array(begin, ids.dtype)).all(-1)  # (B,)
            scores[said, last] = -np.inf
    return scores


def _forbid(scores: Array, ids: Array, *, tokens: Sequence[int]) -> Array:
    """Rule tokens out; ids that no token has say nothing."""
    return np.where(np.isin(np.arange(scores.shape[1]), tokens), np.float32(-np.inf), scores)


def _force(scores: Array, ids: Array, *, tokens: Sequence[int]) -> Array:
    """Rule all other tokens out."""
    forced = np.full_like(scores, -np.inf)
    forced[:, list(tokens)] = 0
    return forced
