"""Scores of every token of the vocabulary, as a masked-token head computes them: `decoder(norm(act(dense(x))))`.

Checkpoints have the four in one module (RoBERTa), the first ones in a module of that (BERT), or side by side in the model (DistilBERT).

B batch, T tokens, C hidden size, V vocabulary.
"""

from __future__ import annotations

from flax import nnx
from jax import Array

from loadstone.architectures import EncoderSpec, ScoreNames, ScoreSpec, leaf, owner
from loadstone_flax.blocks.run import place
from loadstone_flax.layers import ACTIVATIONS, Linear, norm, parameter


class Transform(nnx.Module):
    """norm(act(dense(x)))."""

    def __init__(self, spec: ScoreSpec, names: ScoreNames, hidden_size: int) -> None:
        """Build it; names are relative to it."""
        self.spec, self.names = spec, names
        add_transform(self, spec, names, hidden_size)

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, size)."""
        return transformed(self, self.spec, self.names, x)


class Scores(nnx.Module):
    """Scores of every token of the vocabulary at each position."""

    def __init__(self, spec: EncoderSpec, path: str) -> None:
        """Build it for its path in the model."""
        self.spec, self.path = spec, path
        add_scores(self, spec, path)

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, V)."""
        return scored(self, self.spec, self.path, x)


def add_transform(module: nnx.Module, spec: ScoreSpec, names: ScoreNames, hidden_size: int) -> None:
    """Put into a module what comes before the decoder; names are relative to it."""
    place(module, names.dense, Linear(hidden_size, spec.size))
    place(module, names.norm, norm(spec.norm, spec.size))


def transformed(module: nnx.Module, spec: ScoreSpec, names: ScoreNames, x: Array) -> Array:
    """Compute it: (B, T, C) -> (B, T, size)."""
    x = ACTIVATIONS[spec.activation](getattr(module, names.dense)(x))
    normed: Array = getattr(module, names.norm)(x)
    return normed


def add_scores(module: nnx.Module, spec: EncoderSpec, path: str) -> None:
    """Put all of it into a module, which has a path in the model; "" is the model itself."""
    names, scores = spec.names.scores, spec.scores
    inner = owner(names.dense)
    if inner == path:
        add_transform(module, scores, names.within(path), spec.hidden_size)
    else:
        place(module, leaf(inner), Transform(scores, names.within(inner), spec.hidden_size))
    place(module, leaf(names.decoder), Linear(scores.size, spec.vocab_size))
    if names.bias:  # stored beside the decoder's own, which is tied to it
        place(module, leaf(names.bias), parameter(spec.vocab_size))


def scored(module: nnx.Module, spec: EncoderSpec, path: str, x: Array) -> Array:
    """Compute it: (B, T, C) -> (B, T, V)."""
    names = spec.names.scores
    inner = owner(names.dense)
    if inner == path:
        x = transformed(module, spec.scores, names.within(path), x)
    else:
        x = getattr(module, leaf(inner))(x)
    logits: Array = getattr(module, leaf(names.decoder))(x)
    return logits
