"""What Flax can, for the proofs of `loadstone.testing`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loadstone.testing import (
    Attentions,
    Caches,
    Computes,
    Differentiates,
    Embeds,
    Generates,
    Halves,
    HiddenStates,
    Losses,
    Masks,
)
from loadstone_flax.layers import full_precision


class Flax(
    Masks, Embeds, HiddenStates, Attentions, Losses, Halves, Differentiates, Caches, Generates, Computes
):
    """Flax. What is fed images or tokens alone is compiled, as users do; the rest computes an operation at a time.

    Each run of each case would be a program of its own, used once, and a hundred times slower to make than to run.
    """

    backend = "flax"

    def native(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array)

    def array(self, value: jax.Array) -> np.ndarray:
        return np.asarray(value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value)

    def forward(self, model: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(arguments) == 1 or "pixel_values" in arguments:
            return super().forward(model, arguments)
        with full_precision():
            return model.forward(**arguments)  # type: ignore[no-any-return]

    def differentiate(
        self, model: Any, arguments: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        def loss(chosen: Any) -> tuple[jax.Array, Any]:
            output = self.forward(model.with_params({**model.params, **chosen}), arguments)
            return output["loss"], output

        gradient = jax.value_and_grad(loss, has_aux=True)
        # Operation by operation, those of convolutions take longer to compile than the whole.
        gradient = jax.jit(gradient) if "pixel_values" in arguments else gradient
        (_, output), gradients = gradient({name: model.params[name] for name in names})
        return output, gradients
