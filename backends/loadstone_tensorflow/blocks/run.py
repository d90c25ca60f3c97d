"""The one loop over layers: keeps what is asked for, and computes layers again in the backward pass.

B batch, T query tokens, S key tokens, M tokens of an encoder, H heads, C hidden size.
Gradient checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from loadstone_tensorflow.framework import keras, tf
from loadstone_tensorflow.generation import Cache
from loadstone_tensorflow.layers import Layer, attribute, drawing_from

Tensor: TypeAlias = tf.Tensor


class Context(NamedTuple):
    """What a layer is given beside its input.

    Attributes:
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        rotary: Cosines and sines of the positions, each (B, 1, T, R), of R rotated channels, or None.
        cache: Keys and values of earlier tokens, or None.
        layer: The layer's number, by which the cache knows it.
        eager: Return the attention weights.
        training: Apply dropout.
        bias: What is added to the scores, (B or 1, H, T or 1, S): relative positions, ALiBi.
        growth: What queries are multiplied by for their position, (B, 1, T, 1), or None.
        memory: The states of an encoder (B, M, C), which cross-attention attends.
        memory_mask: True where a query may look there, (B, 1, 1, M), or None: everywhere.
    """

    mask: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None
    cache: Cache | None = None
    layer: int = 0
    eager: bool = False
    training: bool = False
    bias: Tensor | None = None
    growth: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None


class Block(Layer):
    """One of a stack of layers.

    Attributes:
        gradient_checkpointing: Whether it is computed again in the backward pass, in training.
    """

    gradient_checkpointing: bool = False


def run_blocks(
    blocks: Iterable[Layer], x: Tensor, contexts: Iterable[Context], *, keep_states: bool
) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
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


def _run(block: Layer, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
    # Computed twice, the layer would append its keys and values to a cache twice.
    again = context.training and context.cache is None and getattr(block, "gradient_checkpointing", False)
    ran: tuple[Tensor, Tensor | None] = _run_again(block, x, context) if again else block(x, context)
    return ran


def _run_again(block: Layer, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
    """Run a layer, and once more in the backward pass in place of keeping what it computed."""
    # What dropout zeroes must be the same both times.
    seed = tf.random.uniform((2,), maxval=tf.int32.max, dtype=tf.int32)
    # Gradients flow to what is an argument, not to what the function only sees.
    trained = {"bias": context.bias, "memory": context.memory}
    trained = {name: tensor for name, tensor in trained.items() if tensor is not None}

    def run(x: Tensor, *tensors: Tensor) -> Any:
        with drawing_from(seed):
            ran, weights = block(x, context._replace(**dict(zip(trained, tensors, strict=True))))
        return (ran, weights) if context.eager else ran

    ran = tf.recompute_grad(run)(x, *trained.values())
    return tuple(ran) if context.eager else (ran, None)


def place(module: keras.layers.Layer, name: str, held: Any) -> None:
    """Put a part into a layer, at its name there; layers that only hold others are made on the way."""
    *path, last = name.split(".")
    for segment in path:
        if attribute(segment) not in vars(module):
            setattr(module, attribute(segment), Layer())
        module = part(module, segment)
    setattr(module, attribute(last), held)


def part(module: keras.layers.Layer, name: str) -> Any:
    """Return what a layer holds under its name in checkpoints."""
    return getattr(module, attribute(name))
