"""The one loop over layers: keeps what is asked for, and computes layers again in the backward pass.

B batch, T query tokens, S key tokens, M tokens of an encoder, H heads, C hidden size.
Gradient checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from flax import nnx
from jax import Array

if TYPE_CHECKING:
    from loadstone_flax.generation import Cache

# What a layer does not change is not written back; flax 0.12.0 has no such choice.
DEFAULTS: Mapping[str, Any] = {
    name: False for name in ("graph_updates",) if name in inspect.signature(nnx.remat).parameters
}
"""How `nnx.remat` is called where the caller does not say."""


class Context(NamedTuple):
    """What a layer is given beside its input.

    Attributes:
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        rotary: Cosines and sines of the positions, each (B, T, 1, R), of R rotated channels, or None.
        cache: Keys and values of earlier tokens, or None.
        layer: The layer's number, by which the cache knows it.
        eager: Return the attention weights.
        bias: What is added to the scores, (B or 1, H, T or 1, S): relative positions, ALiBi.
        growth: What queries are multiplied by for their position, (B, T, 1, 1), or None.
        memory: The states of an encoder (B, M, C), which cross-attention attends.
        memory_mask: True where a query may look there, (B, 1, 1, M), or None: everywhere.
    """

    mask: Array | None = None
    rotary: tuple[Array, Array] | None = None
    cache: Cache | None = None
    layer: int = 0
    eager: bool = False
    bias: Array | None = None
    growth: Array | None = None
    memory: Array | None = None
    memory_mask: Array | None = None

    def alone(self) -> Context:
        """Return the context of the layer as if there were no other: layers of one spec then share a program."""
        return self._replace(layer=0, cache=None if self.cache is None else self.cache.part(self.layer))


# Arrays flow through programs, and what is no array decides which program it is. As in a tuple, children are known by their
# numbers: `nnx.tabulate` fails on names in a tuple.
_CHOSEN = ("layer", "eager")
_ARRAYS = tuple(name for name in Context._fields if name not in _CHOSEN)

jax.tree_util.register_pytree_with_keys(
    Context,
    lambda context: (
        [
            (jax.tree_util.SequenceKey(Context._fields.index(name)), getattr(context, name))
            for name in _ARRAYS
        ],
        tuple(getattr(context, name) for name in _CHOSEN),
    ),
    lambda chosen, arrays: Context(
        **dict(zip(_CHOSEN, chosen, strict=True)), **dict(zip(_ARRAYS, arrays, strict=True))
    ),
)


class Block(nnx.Module):
    """One of a stack of layers.

    Attributes:
        gradient_checkpointing: Whether it is computed again in the backward pass.
        checkpoint_options: Keyword arguments of `nnx.remat`, each with its value.
    """

    gradient_checkpointing: bool = False
    checkpoint_options: tuple[tuple[str, Any], ...] = ()


def run_blocks(
    blocks: Iterable[nnx.Module], x: Array, contexts: Iterable[Context], *, keep_states: bool
) -> tuple[Array, list[Array], list[Array | None]]:
    """Run layers one after the other.

    Args:
        blocks: The layers.
        x: (B, T, C).
        contexts: Each layer's own.
        keep_states: Return the states; else only the last one outlives its layer.

    Returns:
        The last state, all states from the input on, and all attention weights.
    """
    states, weights = [x] if keep_states else [], []
    for block, context in zip(blocks, contexts, strict=True):
        x, attended = run_block(block, x, context)
        if keep_states:
            states.append(x)
        weights.append(attended)
    return x, states, weights


def run_block(block: Any, x: Array, context: Context) -> tuple[Array, Array | None]:
    """Run a layer, (B, T, C) -> (B, T, C) and the attention weights (B, H, T, S) where eager."""
    # What a layer that is computed again puts into a cache cannot leave it.
    again = context.cache is None and getattr(block, "gradient_checkpointing", False)
    if not again:
        ran: tuple[Array, Array | None] = block(x, context)
    else:
        options = {**DEFAULTS, **dict(block.checkpoint_options)}
        ran = nnx.remat(lambda block, x, context: block(x, context), **options)(block, x, context)
    return ran


def part_of(module: nnx.Module) -> dict[str, Any]:
    """Return a module's parts by their names there."""
    return vars(module)


def place(module: nnx.Module, name: str, part: Any) -> None:
    """Put a part into a module, at its name there; modules that only hold others are made on the way."""
    *path, last = name.split(".")
    for segment in path:
        if segment not in part_of(module):
            setattr(module, segment, nnx.Module())
        module = part_of(module)[segment]
    setattr(module, last, part)
