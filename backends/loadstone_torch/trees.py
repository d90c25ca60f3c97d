"""What models take and return, as PyTorch's trees: `torch.compile`, `torch.export` and `DataParallel` walk them."""

from __future__ import annotations

from typing import Any

from torch.utils import _pytree as pytree

from loadstone.model.outputs import ModelOutput
from loadstone_torch.generation import Cache


def _cache(layers: Any, _: Any) -> Cache:
    cache = Cache()
    cache.layers = list(layers)
    return cache


pytree.register_pytree_node(
    ModelOutput,
    lambda output: (list(output.values()), list(output)),
    lambda values, names: ModelOutput(zip(names, values, strict=True)),
    serialized_type_name="loadstone.ModelOutput",
    flatten_with_keys_fn=lambda output: (
        [(pytree.MappingKey(name), value) for name, value in output.items()],
        list(output),
    ),
)
pytree.register_pytree_node(
    Cache,
    lambda cache: (list(cache.layers), None),
    _cache,
    serialized_type_name="loadstone_torch.Cache",
    flatten_with_keys_fn=lambda cache: (
        [(pytree.SequenceKey(index), layer) for index, layer in enumerate(cache.layers)],
        None,
    ),
)
