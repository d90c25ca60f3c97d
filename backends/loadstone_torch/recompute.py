"""Gradient checkpointing: layers that keep no activations for the backward pass, and are computed again there.

Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from loadstone_torch.generation import Cache

DEFAULTS: Mapping[str, Any] = {"use_reentrant": False}
"""How `torch.utils.checkpoint.checkpoint` is called where the caller does not say."""


class Layer(nn.Module):
    """One of a stack of layers.

    Attributes:
        gradient_checkpointing: Whether it is computed again in the backward pass, in training.
        checkpoint_options: Keyword arguments of `torch.utils.checkpoint.checkpoint`.
    """

    gradient_checkpointing: bool = False
    checkpoint_options: Mapping[str, Any] = DEFAULTS

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Call `forward`, now and, where asked for, once more in the backward pass."""
        # Computed twice, the layer would append its keys and values to a cache twice.
        cached = any(isinstance(value, Cache) for value in (*inputs, *named.values()))
        if not self.gradient_checkpointing or not self.training or cached:
            return super().__call__(*inputs, **named)
        return checkpoint(super().__call__, *inputs, **named, **self.checkpoint_options)
