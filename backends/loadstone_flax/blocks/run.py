"""The one loop over layers: keeps what is asked for, and computes layers again in the backward pass.

B batch, T query tokens, S key tokens, H heads, D head size, C hidden size.
Gradient checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from flax import nnx
from jax import Array

from loadstone_flax.generation import Cache


class Context(NamedTuple):
    """What a layer is given beside its input.

    Attributes:
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        rotary: Cosines and sines of the positions, each (B, T, 1, D), or None.
        cache: Keys and values of earlier tokens, or None.
        layer: The layer's number, by which the cache knows it.
        eager: Return the attention weights.
    """

    mask: Array | None = None
    rotary: tuple[Array, Array] | None = None
    cache: Cache | None = None
    layer: int = 0
    eager: bool = False


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
        x, attended = _run(block, x, context)
        if keep_states:
            states.append(x)
        weights.append(attended)
    return x, states, weights


def _run(block: Any, x: Array, context: Context) -> tuple[Array, Array | None]:
    # What a layer that is computed again puts into a cache cannot leave it.
    again = context.cache is None and getattr(block, "gradient_checkpointing", False)
    if not again:
        ran: tuple[Array, Array | None] = block(x, context)
        return ran

    def run(block: Any, x: Array, arrays: Context) -> tuple[Array, Array | None]:
        ran: tuple[Array, Array | None] = block(x, arrays._replace(layer=context.layer, eager=context.eager))
        return ran

    return nnx.remat(run, **dict(block.checkpoint_options))(
        block, x, context._replace(layer=None, eager=None)
    )


def place(module: nnx.Module, name: str, part: Any) -> None:
    """Put a part into a module, at its name there; modules that only hold others are made on the way."""
    *path, last = name.split(".")
    for segment in path:
        if segment not in vars(module):
            setattr(module, segment, nnx.Module())
        module = getattr(module, segment)
    setattr(module, last, part)
