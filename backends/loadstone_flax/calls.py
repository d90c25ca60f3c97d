"""A call of a model: its inputs by name and checked, then one program, or in places where the model lies in several.

B batch, T tokens, N choices.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from loadstone.errors import ArgumentError
from loadstone.model.pretrained import check_mask
from loadstone_flax.blocks.away import at_home, copied, visited
from loadstone_flax.generation import Cache
from loadstone_flax.layers import Dropout, changed_state, full_precision, named_modules

if TYPE_CHECKING:
    from loadstone_flax.modeling import PreTrainedModel


def apart(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a model's own way of being called one that runs where the model lies in several places, too."""

    @functools.wraps(call)
    def wrapped(self: PreTrainedModel, *inputs: Any, **named: Any) -> Any:
        if not self._runs_apart():
            return call(self, *inputs, **named)
        model = copied(self)
        with visited(model, self.calls):
            output = call(model, *inputs, **at_home(self.calls, named))
        if (changed := changed_state(model)) is not None:
            self._remember(changed)
        return output

    return wrapped


def computed(
    model: PreTrainedModel,
    arrays: dict[str, Any],
    dropout_rng: Array | None,
    *,
    choices: tuple[tuple[str, Any], ...],
    settings: tuple[Any, ...],
) -> tuple[Any, Any]:
    """Return the output of `forward`, and what training has changed beside parameters, or None where nothing has.

    The model is an argument, flattened by jax: its arrays are the program's inputs, which it neither copies nor returns.
    `settings` are those of the configuration that `forward` reads; they are here so that a change compiles anew.
    """
    dropouts = [m for _, m in named_modules(model) if isinstance(m, Dropout) and m.drops]
    if dropout_rng is not None:
        for index, dropout in enumerate(dropouts):
            dropout.rngs = nnx.RngStream(jax.random.fold_in(dropout_rng, index), tag="dropout")
    with full_precision(), visited(model, model.calls):
        output = model.forward(**arrays, **dict(choices))
    return output, changed_state(model, counted=dropout_rng is None)


compiled = jax.jit(computed, static_argnames=("choices", "settings"))
"""The same as one program, for a model that lies in one place."""


@functools.cache
def _input_names(model_class: type[PreTrainedModel]) -> tuple[str, ...]:
    parameters = list(inspect.signature(model_class.forward).parameters.values())[1:]
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)


def by_name(model_class: type, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return all inputs of a call by name."""
    if "train" in named:
        raise ArgumentError(
            f"{model_class.__name__} takes no train=", hint="call model.train() or model.eval() before"
        )
    names = _input_names(model_class)
    if len(inputs) > len(names):
        raise ArgumentError(
            f"{model_class.__name__} takes {len(names)} inputs by position, found {len(inputs)}"
        )
    twice = [name for name in names[: len(inputs)] if name in named]
    if twice:
        raise ArgumentError(f"{model_class.__name__} was given {twice[0]} by position and by name")
    return dict(zip(names, inputs, strict=False)) | dict(named)


def sorted_out(named: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """Return the inputs that are arrays, and those that choose what is computed (`use_cache=True`)."""
    arrays: dict[str, Any] = {}
    choices = []
    for name, value in named.items():
        if isinstance(value, bool | int | str):
            choices.append((name, value))
        elif name == "past_key_values" and isinstance(value, tuple | list):
            arrays[name] = Cache([(k, v) for k, v in value])
        elif value is not None:
            arrays[name] = value if isinstance(value, Cache | Array) else np.asarray(value)
    return arrays, tuple(sorted(choices))


def check_tokens(model_class: type[PreTrainedModel], arrays: Mapping[str, Any]) -> None:
    """Raise an ArgumentError if input_ids holds no token ids, or attention_mask does not say something of each token."""
    ids, embeds, mask = (arrays.get(name) for name in ("input_ids", "inputs_embeds", "attention_mask"))
    chooses = model_class.architecture_and_head()[1].task == "MultipleChoice"
    axes = ("B", "N", "T") if chooses else ("B", "T")
    if ids is not None and (ids.ndim != len(axes) or not jnp.issubdtype(ids.dtype, jnp.integer)):
        raise ArgumentError(
            "input_ids is no table of token ids",
            expected=f"integers ({', '.join(axes)})",
            found=f"{ids.dtype} {ids.shape}",
        )
    tokens = ids.shape if ids is not None else embeds.shape[:-1] if embeds is not None else None
    if mask is None or tokens is None:
        return
    *batch, keys = tokens
    cache = arrays.get("past_key_values")
    if cache is not None:
        keys = cache.keys(keys)
    check_mask(mask.shape, (*batch, keys))
