"""One forward pass of a transformers model on numpy arrays, and its output as numpy arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from loadstone.testing.case import PROOF, Case

Arrays = dict[str, np.ndarray]

LAYERED_RUNS = (PROOF, "interpolate")
"""The runs that also record every layer's hidden states and attentions."""


def tensors(arrays: Arrays) -> dict[str, Any]:
    """Arrays as transformers takes them: 0-d ones as plain numbers."""
    return {k: torch.from_numpy(v) if v.ndim else v.item() for k, v in arrays.items()}


def call(model: Any, case: Case, run: str, arrays: Arrays) -> Any:
    """Run the model; floating inputs take its dtype."""
    arguments = tensors(arrays)
    for name in {"pixel_values", "inputs_embeds"} & arguments.keys():
        arguments[name] = arguments[name].to(model.dtype)
    if run in LAYERED_RUNS:
        arguments["output_hidden_states"] = True
        if case.attentions:
            arguments["output_attentions"] = True
    return model(**arguments)


def flatten(output: Any, prefix: str = "output") -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of a model's output with its path, such as `output/hidden_states/2`; caches are left out."""
    if isinstance(output, torch.Tensor):
        yield prefix, output.detach().float().numpy() if output.is_floating_point() else output.numpy()
    elif isinstance(output, dict):
        for name, value in output.items():
            if name != "past_key_values":
                yield from flatten(value, f"{prefix}/{name}")
    elif isinstance(output, tuple):
        for index, value in enumerate(output):
            yield from flatten(value, f"{prefix}/{index}")
