"""What PyTorch can, for the proofs of `loadstone.testing`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

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

torch.set_num_threads(1)


class Torch(
    Masks, Embeds, HiddenStates, Attentions, Losses, Halves, Differentiates, Caches, Generates, Computes
):
    """PyTorch."""

    backend = "torch"

    def native(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array))

    def array(self, value: torch.Tensor) -> np.ndarray:
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()

    def differentiate(
        self, model: Any, arguments: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        output = model(**arguments)
        found = torch.autograd.grad(output.loss, [model.get_parameter(name) for name in names])
        return output, dict(zip(names, found, strict=True))
