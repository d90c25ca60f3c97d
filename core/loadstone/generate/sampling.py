"""Choosing the next token from logits, in numpy: the same choice in every framework, given the same logits.

Sources: top-k: Fan et al. 2018, https://arxiv.org/abs/1805.04833; top-p: Holtzman et al. 2019,
https://arxiv.org/abs/1904.09751.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loadstone.generate.settings import Generation

Array = np.ndarray[Any, Any]


class Sampler:
    """Chooses tokens as one call of `generate` asks; holds its own random generator.

    Args:
        call: The resolved call.
    """

    def __init__(self, call: Generation) -> None:
        self._call = call
        # numpy takes no negative numbers, and PyTorch's users pass them.
        self._generator = np.random.default_rng(None if call.seed is None else call.seed % 2**128)

    def choose(self, scores: Array) -> Array:
        """Return the next token of each sequence.

        Args:
            scores: (B, V) of any float dtype, as `loadstone.generate.processors` leaves them.

        Returns:
            (B,) token ids.
        """
        call = self._call
        scores = scores.astype(np.float32, copy=False)
        if not call.do_sample:
            return np.asarray(scores.argmax(-1))
        scores = scores / call.temperature
        if call.top_k:
            scores = _keep_best(scores, call.top_k)
        if call.top_p < 1.0:
            scores = _keep_mass(scores, call.top_p)
        return self._draw(scores)

    def _draw(self, scores: Array) -> Array:
        cumulative = _softmax(scores).cumsum(-1)
        points = self._generator.random((len(scores), 1)) * cumulative[:, -1:]
        return np.asarray((cumulative <= points).sum(-1).clip(max=scores.shape[-1] - 1))


def _keep_best(scores: Array, number: int) -> Array:
    """Leave out all but the `number` best tokens, and those that are as good as the last of them."""
    number = min(number, scores.shape[-1])
    bound = np.partition(scores, -number, axis=-1)[:, -number, None]
    return np.where(scores < bound, -np.inf, scores)


def _keep_mass(scores: Array, mass: float) -> Array:
    """Leave out the unlikely tokens beyond a probability mass; the best one always stays."""
    order = scores.argsort(-1)[:, ::-1]
    probability = np.take_along_axis(_softmax(scores), order, axis=-1)
    before = probability.cumsum(-1) - probability
    kept = before < mass
    kept[:, 0] = True
    mask = np.zeros_like(kept)
    np.put_along_axis(mask, order, kept, axis=-1)
    return np.where(mask, scores, -np.inf)


def _softmax(scores: Array) -> Array:
    weights = np.exp((scores - scores.max(-1, keepdims=True)).astype(np.float64))
    return np.asarray(weights / weights.sum(-1, keepdims=True))
