"""Feed-forward: a widened middle, plain, gated, or with gate and middle from one projection; and the output that BERT's checkpoints nest.

B batch, T tokens, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from loadstone.architectures import FeedForwardNames, FeedForwardSpec, NormSpec
from loadstone_tensorflow.blocks.run import part, place
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import ACTIVATIONS, Dropout, Layer, Linear, Projection, norm

Tensor: TypeAlias = tf.Tensor
Activation = Callable[[Tensor], Tensor]


class FeedForward(Layer):
    """`down(act(up(x)))`, or with a gate `down(act(gate(x)) * up(x))`."""

    def __init__(self, spec: FeedForwardSpec, names: FeedForwardNames, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where its parts are, relative to it; without `down` it only widens.
            hidden_size: Channels that it reads.
        """
        super().__init__()
        self.names, self.activation = names, ACTIVATIONS[spec.activation]
        add_feed_forward(self, spec, names, hidden_size)

    def call(self, x: Tensor, training: bool) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return fed(self, self.names, self.activation, x, training)


def add_feed_forward(layer: Layer, spec: FeedForwardSpec, names: FeedForwardNames, hidden_size: int) -> None:
    """Put a feed-forward into a layer, its names relative to that; Bart has it in the layer itself."""
    linear = Projection if spec.transposed else Linear
    for name in filter(None, (names.gate, names.up)):
        place(layer, name, linear(hidden_size, spec.size, spec.bias))
    if names.gate_up:
        place(layer, names.gate_up, linear(hidden_size, 2 * spec.size, spec.bias))
    if names.down:
        place(layer, names.down, linear(spec.size, hidden_size, spec.bias))
    if names.dropout:
        place(layer, names.dropout, Dropout(spec.dropout))


def fed(layer: Layer, names: FeedForwardNames, activation: Activation, x: Tensor, training: bool) -> Tensor:
    """Compute it: (B, T, C) -> (B, T, C)."""
    if names.gate_up:
        gate, up = tf.split(part(layer, names.gate_up)(x), 2, axis=-1)
        x = activation(gate) * up
    elif names.gate:
        x = activation(part(layer, names.gate)(x)) * part(layer, names.up)(x)
    else:
        x = activation(part(layer, names.up)(x))
    if names.down:
        x = part(layer, names.down)(x)
    return part(layer, names.dropout)(x, training) if names.dropout else x


class Output(Layer):
    """The end of a nested part: a projection, and, where the norm after the part lies in it, that of the sum with its input."""

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        *,
        dense: str,
        bias: bool,
        dropout: tuple[str, float],
        after: tuple[str, NormSpec],
    ) -> None:
        """Build it.

        Args:
            in_features: Channels that it reads.
            hidden_size: Channels that it gives.
            dense: Name of the projection.
            bias: Whether it has one.
            dropout: Name of what drops some of it in training, and with what probability.
            after: Name of the norm, "" for none, and its spec.
        """
        super().__init__()
        self.projects, self.drops, self.norms = dense, dropout[0], after[0]
        place(self, dense, Linear(in_features, hidden_size, bias))
        if after[0]:
            place(self, after[0], norm(after[1], hidden_size))
        place(self, dropout[0], Dropout(dropout[1]))

    def call(self, x: Tensor, residual: Tensor, training: bool) -> Tensor:
        """(B, T, in_features) and the part's input (B, T, C) -> (B, T, C)."""
        x = part(self, self.drops)(part(self, self.projects)(x), training)
        return part(self, self.norms)(x + residual) if self.norms else x
