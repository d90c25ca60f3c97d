"""Feed-forward: a widened middle, plain, gated, or with gate and middle from one projection; and the output that BERT's checkpoints nest.

B batch, T tokens, C hidden size.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures import FeedForwardNames, FeedForwardSpec, NormSpec
from loadstone_flax.blocks.run import part_of, place
from loadstone_flax.layers import ACTIVATIONS, Dropout, Linear, Projection, norm


class FeedForward(nnx.Module):
    """`down(act(up(x)))`, or with a gate `down(act(gate(x)) * up(x))`."""

    def __init__(self, spec: FeedForwardSpec, names: FeedForwardNames, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where its parts are, relative to it; without `down` it only widens.
            hidden_size: Channels that it reads.
        """
        self.names, self.activation = names, spec.activation
        add_feed_forward(self, spec, names, hidden_size)

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, C)."""
        return fed(self, self.names, self.activation, x)


def add_feed_forward(
    module: nnx.Module, spec: FeedForwardSpec, names: FeedForwardNames, hidden_size: int
) -> None:
    """Put a feed-forward into a module, its names relative to that; Bart has it in the layer itself."""
    linear = Projection if spec.transposed else Linear
    for name in filter(None, (names.gate, names.up)):
        place(module, name, linear(hidden_size, spec.size, spec.bias))
    if names.gate_up:
        place(module, names.gate_up, linear(hidden_size, 2 * spec.size, spec.bias))
    if names.down:
        place(module, names.down, linear(spec.size, hidden_size, spec.bias))
    if names.dropout:
        place(module, names.dropout, Dropout(spec.dropout))


def fed(module: nnx.Module, names: FeedForwardNames, activation: str, x: Array) -> Array:
    """Compute it: (B, T, C) -> (B, T, C)."""
    parts, act = part_of(module), ACTIVATIONS[activation]
    if names.gate_up:
        gate, up = jnp.split(parts[names.gate_up](x), 2, axis=-1)
        x = act(gate) * up
    elif names.gate:
        x = act(parts[names.gate](x)) * parts[names.up](x)
    else:
        x = act(parts[names.up](x))
    if names.down:
        x = parts[names.down](x)
    return parts[names.dropout](x) if names.dropout else x


class Output(nnx.Module):
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
        self.names = dense, dropout[0], after[0]
        place(self, dense, Linear(in_features, hidden_size, bias))
        if after[0]:
            place(self, after[0], norm(after[1], hidden_size))
        place(self, dropout[0], Dropout(dropout[1]))

    def __call__(self, x: Array, residual: Array) -> Array:
        """(B, T, in_features) and the part's input (B, T, C) -> (B, T, C)."""
        dense, dropout, after = self.names
        parts = part_of(self)
        x = parts[dropout](parts[dense](x))
        return parts[after](x + residual) if after else x
