"""Resizing the vocabulary of a model: more or fewer rows in its embedding and its output layer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from loadstone.backend import get_backend
from loadstone.dtypes import nbytes
from loadstone.errors import ArgumentError

if TYPE_CHECKING:
    from loadstone.pretrained import Pretrained
    from loadstone.read.tensor import HostTensor


def resize_token_embeddings(model: Pretrained, new_num_tokens: int, *, mean_resizing: bool = True) -> None:
    """Give a model's embedding and output layer another number of rows, in place, and its configuration too.

    Args:
        model: A model of any backend.
        new_num_tokens: Rows to have; the first ones keep their values.
        mean_resizing: A new row is the mean of the old ones, so that a new token is as likely as an average one;
            else zeros.

    Raises:
        ArgumentError: If the number is not positive.
    """
    if new_num_tokens < 1:
        raise ArgumentError("a vocabulary has at least one token", found=new_num_tokens)
    backend = get_backend(model.backend_name)
    parameters = backend.parameters(model)
    device = backend.device(model.device)
    names = [name for name in _vocabulary_names(model) if name in parameters]
    owners: dict[object, str] = {}
    for name in names:
        owner = owners.setdefault(parameters[name].identity or name, name)
        if owner == name:
            tensor = resized(backend.read(model, name), new_num_tokens, mean=mean_resizing)
            backend.put(model, name, tensor, device)
        else:
            backend.tie(model, name, owner)
    # A copy: a clone of the model may share the old one.
    config = copy.deepcopy(model.config)
    config.update({"vocab_size": new_num_tokens})
    model.config = model.base_model.config = config


def _vocabulary_names(model: Pretrained) -> list[str]:
    """Return the parameters whose first axis is the vocabulary, owners of ties before what is tied to them."""
    architecture, head = model.architecture_and_head()
    prefix = f"{head.prefix}." if head.prefix else ""
    names = [f"{prefix}{architecture.embedding}.weight"]
    if head.output:
        names += [f"{head.output}.weight", f"{head.output}.bias"]
    ties = {tie.name: tie.to for tie in head.ties}
    return list(dict.fromkeys([*(ties.get(name, name) for name in names), *names]))


def resized(tensor: HostTensor, rows: int, *, mean: bool) -> HostTensor:
    """Return a copy of a tensor with another number of rows; new ones are the mean of the old ones, or zeros."""
    import numpy as np

    from loadstone.read.memory import aligned_empty
    from loadstone.read.tensor import HostTensor

    old = tensor.numpy()
    shape = (rows, *tensor.shape[1:])
    new = HostTensor(
        name=tensor.name, dtype=tensor.dtype, shape=shape, data=aligned_empty(nbytes(tensor.dtype, shape))
    )
    kept = min(rows, len(old))
    values = new.numpy()
    values[:kept] = old[:kept]
    if mean:
        values[kept:] = old.mean(axis=0, dtype=np.float32).astype(old.dtype)
    else:
        values[kept:] = 0
    return new
