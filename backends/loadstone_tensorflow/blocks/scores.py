"""Scores of every token of the vocabulary, as a masked-token head computes them: `decoder(norm(act(dense(x))))`.

Checkpoints have the four in one module (RoBERTa), the first ones in a module of that (BERT), or side by side in the model (DistilBERT).

B batch, T tokens, C hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures import EncoderSpec, ScoreNames, ScoreSpec, leaf, owner
from loadstone_tensorflow.blocks.run import part, place
from loadstone_tensorflow.framework import keras, tf
from loadstone_tensorflow.layers import ACTIVATIONS, Layer, Linear, norm, parameter

Tensor: TypeAlias = tf.Tensor


class Transform(Layer):
    """norm(act(dense(x)))."""

    def __init__(self, spec: ScoreSpec, names: ScoreNames, hidden_size: int) -> None:
        """Build it; names are relative to it."""
        super().__init__()
        self.spec, self.names = spec, names
        add_transform(self, spec, names, hidden_size)

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, size)."""
        return transformed(self, self.spec, self.names, x)


class Scores(Layer):
    """Scores of every token of the vocabulary at each position."""

    def __init__(self, spec: EncoderSpec, path: str) -> None:
        """Build it for its path in the model."""
        super().__init__()
        self.spec, self.lies = spec, path
        add_scores(self, spec, path)

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)."""
        return scored(self, self.spec, self.lies, x)


def add_transform(layer: keras.layers.Layer, spec: ScoreSpec, names: ScoreNames, hidden_size: int) -> None:
    """Put into a layer what comes before the decoder; names are relative to it."""
    place(layer, names.dense, Linear(hidden_size, spec.size))
    place(layer, names.norm, norm(spec.norm, spec.size))


def transformed(layer: keras.layers.Layer, spec: ScoreSpec, names: ScoreNames, x: Tensor) -> Tensor:
    """Compute it: (B, T, C) -> (B, T, size)."""
    x = ACTIVATIONS[spec.activation](part(layer, names.dense)(x))
    return part(layer, names.norm)(x)


def add_scores(layer: keras.layers.Layer, spec: EncoderSpec, path: str) -> None:
    """Put all of it into a layer, which has a path in the model; "" is the model itself."""
    names, scores = spec.names.scores, spec.scores
    inner = owner(names.dense)
    if inner == path:
        add_transform(layer, scores, names.within(path), spec.hidden_size)
    else:
        place(layer, leaf(inner), Transform(scores, names.within(inner), spec.hidden_size))
    place(layer, leaf(names.decoder), Linear(scores.size, spec.vocab_size))
    if names.bias:  # stored beside the decoder's own, which is tied to it
        place(layer, leaf(names.bias), parameter(spec.vocab_size))


def scored(layer: keras.layers.Layer, spec: EncoderSpec, path: str, x: Tensor) -> Tensor:
    """Compute it: (B, T, C) -> (B, T, V)."""
    names = spec.names.scores
    inner = owner(names.dense)
    if inner == path:
        x = transformed(layer, spec.scores, names.within(path), x)
    else:
        x = part(layer, leaf(inner))(x)
    return part(layer, leaf(names.decoder))(x)
