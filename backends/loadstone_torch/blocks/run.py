"""The one loop over layers: keeps what is asked for, and computes layers again in the backward pass.

B batch, T query tokens, S key tokens, M tokens of an encoder, H heads, C hidden size.
Gradient checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from loadstone_torch.generation import Cache

DEFAULTS: Mapping[str, Any] = {"use_reentrant": False}
"""How `torch.utils.checkpoint.checkpoint` is called where the caller does not say."""


class Context(NamedTuple):
    """What a layer is given beside its input; a tuple, so that what moves or casts a layer's inputs finds the tensors.

    Attributes:
        mask: True where a query may look, (B or 1, 1, T or 1, S), or None: everywhere.
        rotary: Cosines and sines of the positions, each (B, 1, T, R), of R rotated channels, or None.
        cache: Keys and values of earlier tokens, or None.
        layer: The layer's number, by which the cache knows it.
        eager: Return the attention weights.
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
    bias: Tensor | None = None
    growth: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None


class Block(nn.Module):
    """One of a stack of layers.

    Attributes:
        gradient_checkpointing: Whether it is computed again in the backward pass, in training.
        checkpoint_options: Keyword arguments of `torch.utils.checkpoint.checkpoint`.
    """

    gradient_checkpointing: bool = False
    checkpoint_options: Mapping[str, Any] = DEFAULTS


def run_blocks(
    blocks: Iterable[nn.Module], x: Tensor, contexts: Iterable[Context], *, keep_states: bool
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


def _run(block: nn.Module, x: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
    # Computed twice, the layer would append its keys and values to a cache twice.
    again = block.training and context.cache is None and getattr(block, "gradient_checkpointing", False)
    if not again:
        ran: tuple[Tensor, Tensor | None] = block(x, context)
    else:
        ran = checkpoint(block, x, context, **block.checkpoint_options)
    return ran


def part_of(module: nn.Module) -> dict[str, Any]:
    """Return a module's parts by their names there; `getattr` finds the same, after it has looked in three other places."""
    return module._modules


def place(module: nn.Module, name: str, part: nn.Module | None) -> None:
    """Put a part into a module, at its name there; modules that only hold others are made on the way.

    Past `nn.Module.__setattr__`, which takes longer than all else here: there can be 100,000 parts.
    """
    *path, last = name.split(".")
    for segment in path:
        module = module._modules.setdefault(segment, nn.Module())
    module._modules[last] = part
