"""One layer of a decoder or an encoder.

B batch, T query tokens, S key tokens, H heads, C hidden size.
"""

from __future__ import annotations

from flax import nnx
from jax import Array

from loadstone.architectures import LayerSpec, Names, owner
from loadstone_flax.blocks.attention import Attention, CrossAttention, NestedAttention
from loadstone_flax.blocks.feedforward import FeedForward, Output, add_feed_forward, fed
from loadstone_flax.blocks.run import Block, Context, part_of, place
from loadstone_flax.layers import norm


class Layer(Block):
    """Attention and feed-forward, each added to its input; a norm is there where it has a name.

    ```
    x ──┬── before ── attention ── after ──(+)──┬── before ── feed-forward ── after ──(+)──>
        └───────────────────────────────────┘   └───────────────────────────────────────┘
    ```

    or, where the norm after a part is `of_sum`:

    ```
    x ──┬── attention ──(+)── after ──┬── feed-forward ──(+)── after ──>
        └────────────────┘            └───────────────────┘
    ```

    Attention to an encoder's states stands between the two, in the same way. Where they are `parallel`, both read the layer's input:

    ```
        ┌── before ── attention ────┐
    x ──┼── before ── feed-forward ─┤
        └──────────────────────────(+)──>
    ```
    """

    def __init__(self, spec: LayerSpec, names: Names, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where checkpoints have the parts.
            hidden_size: Channels between the layers.
        """
        self.of_sum, self.residual, self.names = spec.norm.of_sum, spec.residual, names
        self.parallel = spec.parallel
        attention, cross, feed_forward = names.attention, names.cross_attention, names.feed_forward
        self.attends, self.feeds = owner(attention.output), owner(feed_forward.down)
        self.crosses = owner(cross.output) if cross else ""
        parts: dict[str, nnx.Module | None] = {attention.before: None}
        parts[self.attends] = Attention(spec.attention, attention.within(self.attends), hidden_size)
        parts[attention.after] = None
        if cross is not None and spec.cross_attention is not None:
            parts[cross.before] = None
            parts[self.crosses] = CrossAttention(
                spec.cross_attention, cross.within(self.crosses), hidden_size
            )
            parts[cross.after] = None
        parts[feed_forward.before] = None
        if self.feeds:
            parts[self.feeds] = FeedForward(spec.feed_forward, feed_forward.within(self.feeds), hidden_size)
        parts[feed_forward.after] = None
        order = sorted(parts, key=lambda name: parts[name] is None) if names.norms_last else parts
        for name in filter(None, order):
            place(self, name, parts[name] or norm(spec.norm, hidden_size))
        if not self.feeds:
            self.activation = spec.feed_forward.activation
            add_feed_forward(self, spec.feed_forward, feed_forward, hidden_size)

    def __call__(self, x: Array, context: Context) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the attention weights (B, H, T, S) where eager."""
        attention, cross, feed_forward = (
            self.names.attention,
            self.names.cross_attention,
            self.names.feed_forward,
        )
        read = self._normed(attention.before, x)
        mixed, weights = part_of(self)[self.attends](read, context)
        if self.parallel:
            if feed_forward.before != attention.before:
                read = self._normed(feed_forward.before, x)
            x = self._added(x, mixed, attention.after)
            return self._added(x, self._fed(read), feed_forward.after), weights
        x = self._added(x, mixed, attention.after)
        if cross is not None:
            mixed, _ = part_of(self)[self.crosses](self._normed(cross.before, x), context)
            x = self._added(x, mixed, cross.after)
        given = self._fed(self._normed(feed_forward.before, x))
        return self._added(x, given, feed_forward.after), weights

    def _fed(self, read: Array) -> Array:
        if self.feeds:
            return part_of(self)[self.feeds](read)
        return fed(self, self.names.feed_forward, self.activation, read)

    def _normed(self, name: str, x: Array) -> Array:
        return part_of(self)[name](x) if name else x

    def _added(self, x: Array, part: Array, after: str) -> Array:
        if self.residual != 1.0:
            part = part * self.residual
        return self._normed(after, part + x) if self.of_sum else x + self._normed(after, part)


class NestedLayer(Block):
    """The same as BERT's checkpoints nest it: the norms are of the sums, and lie in the outputs with the projections.

    ```
          ┌──────────── attention ────────────┐     ┌ intermediate ┐ ┌───── output ─────┐
    x ──┬── self ── output: dense ──(+)── norm ──┬── dense ── act ──── dense ──(+)── norm ──>
        └────────────────────────────┘           └──────────────────────────────┘
    ```

    or, where they are not `of_sum` (ViT), before each part:

    ```
    x ──┬── before ── attention ──(+)──┬── before ── intermediate ── output ──(+)──>
        └──────────────────────────┘   └──────────────────────────────────────┘
    ```
    """

    def __init__(self, spec: LayerSpec, names: Names, hidden_size: int) -> None:
        """Build it; the arguments are those of `Layer`."""
        self.of_sum = spec.norm.of_sum
        attention, feed_forward = names.attention, names.feed_forward
        self.attends = owner(owner(attention.output))
        self.widens, self.narrows = owner(feed_forward.up), owner(feed_forward.down)
        self.before = attention.before, feed_forward.before
        inner, outer = feed_forward.within(self.widens), feed_forward.within(self.narrows)
        output = Output(
            spec.feed_forward.size,
            hidden_size,
            dense=outer.down,
            bias=spec.feed_forward.bias,
            dropout=(outer.dropout, spec.feed_forward.dropout),
            after=(outer.after, spec.norm),
        )
        place(self, self.attends, NestedAttention(spec, attention, hidden_size))
        place(self, self.widens, FeedForward(spec.feed_forward, inner, hidden_size))
        place(self, self.narrows, output)
        for name in filter(None, self.before):
            place(self, name, norm(spec.norm, hidden_size))

    def __call__(self, x: Array, context: Context) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the attention weights (B, H, T, S) where eager."""
        parts, (before_attention, before_feed_forward) = part_of(self), self.before
        attention, widen, narrow = parts[self.attends], parts[self.widens], parts[self.narrows]
        if self.of_sum:
            x, weights = attention(x, context)
            return narrow(widen(x), x), weights
        mixed, weights = attention(parts[before_attention](x), context)
        x = x + mixed
        return x + narrow(widen(parts[before_feed_forward](x)), x), weights
