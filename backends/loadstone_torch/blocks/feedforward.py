"""Feed-forward: a widened middle, plain, gated, or with gate and middle from one projection; and the output that BERT's checkpoints nest.

B batch, T tokens, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from loadstone.architectures import FeedForwardNames, FeedForwardSpec, NormSpec
from loadstone_torch.blocks.run import part_of, place
from loadstone_torch.layers import ACTIVATIONS, Linear, Projection, norm

Activation = Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return fed(self, self.names, self.activation, x)


def add_feed_forward(
    module: nn.Module, spec: FeedForwardSpec, names: FeedForwardNames, hidden_size: int
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
        place(module, names.dropout, nn.Dropout(spec.dropout))


def fed(module: nn.Module, names: FeedForwardNames, activation: Activation, x: Tensor) -> Tensor:
    """Compute it: (B, T, C) -> (B, T, C)."""
    parts = part_of(module)
    if names.gate_up:
        gate, up = parts[names.gate_up](x).chunk(2, dim=-1)
        x = activation(gate) * up
    elif names.gate:
        x = activation(parts[names.gate](x)) * parts[names.up](x)
    else:
        x = activation(parts[names.up](x))
    if names.down:
        x = parts[names.down](x)
    return parts[names.dropout](x) if names.dropout else x


class Output(nn.Module):
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
        self.names = dense, dropout[0], after[0]
        place(self, dense, Linear(in_features, hidden_size, bias))
        if after[0]:
            place(self, after[0], norm(after[1], hidden_size))
        place(self, dropout[0], nn.Dropout(dropout[1]))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(B, T, in_features) and the part's input (B, T, C) -> (B, T, C)."""
        dense, dropout, after = self.names
        parts = part_of(self)
        x = parts[dropout](parts[dense](x))
        return parts[after](x + residual) if after else x
