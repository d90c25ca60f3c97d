"""One compiled program for all blocks that compute the same, with what comes from disk as its arguments.

Where `tf.function` sees a whole model, it traces each block, of which there may be a hundred. Those on disk hold no variables,
so that one program serves all that are made alike.

B batch, T query tokens, C hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np

from loadstone_tensorflow.blocks.run import Block, Context
from loadstone_tensorflow.framework import keras, tf
from loadstone_tensorflow.generation import Cache
from loadstone_tensorflow.layers import PLAIN, Layer

Tensor: TypeAlias = tf.Tensor
Ran: TypeAlias = tuple[Tensor, Tensor | None]
Having: TypeAlias = Callable[[Sequence[Tensor]], AbstractContextManager[None]]
"""Gives the parameters of a block values, in their order, as long as it lasts."""


CALLED = {"_noinline": True}
"""TensorFlow would put a copy of the program wherever it is called, and compile each."""

APART = ("name", "visit")
"""What tells a layer from others that compute the same."""


class Programs:
    """The programs of one model, each made from the first block of its kind."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, Any] = {}

    def run(self, block: Block, having: Having, values: Sequence[Tensor], x: Tensor, context: Context) -> Ran:
        """Run a block: x (B, T, C) -> (B, T, C), and the attention weights where eager.

        Args:
            block: It; all its variables are among the parameters.
            having: Gives its parameters values.
            values: Theirs.
            x: What goes in.
            context: What is given beside it.
        """
        cache, number = context.cache, context.layer
        kind = kind_of(block)
        if kind not in self._compiled:
            run = functools.partial(_run, block, having)
            self._compiled[kind] = tf.function(run, autograph=False, experimental_attributes=CALLED)
        pair = cache[number] if cache is not None and number < len(cache) else None
        filled = None if cache is None else cache.filled
        # The number is the layer's place in the cache, and the program's cache has one.
        alike = context._replace(cache=None, layer=0)
        ran, weights, pair = self._compiled[kind](list(values), x, alike, cache is not None, pair, filled)
        if cache is not None:
            cache.layers[number : number + 1] = [pair]
        return ran, weights


def _run(
    block: Block,
    having: Having,
    values: Sequence[Tensor],
    x: Tensor,
    context: Context,
    keeps: bool,
    pair: tuple[Tensor, Tensor] | None,
    filled: Tensor | None,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor] | None]:
    cache = Cache([] if pair is None else [pair], filled) if keeps else None
    with having(values):
        ran, weights = block.call(x, context._replace(cache=cache))
    return ran, weights, None if cache is None else cache[0]


def can_share(context: Context) -> bool:
    """Return whether a block that is given this may run by a program that others share.

    Not where it draws, which each layer does for itself, or fills a cache with what it makes of an encoder's states.
    """
    return not context.training and context.memory is None


def kind_of(layer: Any) -> Hashable:
    """Return what tells layers apart that compute different things of equal parameters."""
    if isinstance(layer, list):
        return tuple(map(kind_of, layer))
    if isinstance(layer, keras.Variable):
        return tuple(layer.shape), layer._dtype
    if isinstance(layer, Layer):
        held = vars(layer).items()
        told = ((name, value) for name, value in held if name[:1] != "_" and name not in APART)
        return type(layer), tuple((name, _told(value)) for name, value in told)
    return _Itself(layer)  # somebody's layer, of which nothing is known


def _told(value: Any) -> Hashable:
    if isinstance(value, list | keras.Variable | keras.layers.Layer):
        return kind_of(value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, keras.DTypePolicy):
        return str(value.name)
    plain = isinstance(value, PLAIN) or hasattr(value, "__dataclass_fields__")
    return value if plain and getattr(value, "__hash__", None) else _Itself(value)


class _Itself:
    """Something that is equal to nothing else."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)
