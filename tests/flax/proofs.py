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


class Flax(
    Masks, Embeds, HiddenStates, Attentions, Losses, Halves, Differentiates, Caches, Generates, Computes
):
    """Flax."""

    backend = "flax"

    def native(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array)

    def array(self, value: jax.Array) -> np.ndarray:
        return np.asarray(value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value)

    def differentiate(
        self, model: Any, arguments: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            output = self.forward(model.with_params(params), arguments)
            return output["loss"], output

        (_, output), gradients = jax.value_and_grad(loss, has_aux=True)(model.params)
        return output, {name: gradients[name] for name in names}
