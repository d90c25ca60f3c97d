"""Resizing the vocabulary of a model: more or fewer rows in its embedding, its output layer, and all that is tied to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loadstone.backend import Parameter, get_backend
from loadstone.backend.seeds import choose_seed
from loadstone.dtypes import nbytes
from loadstone.errors import ArgumentError
from loadstone.load.fresh import generator_of
from loadstone.load.report import refuse_on_disk
from loadstone.planning.place import with_values

if TYPE_CHECKING:
    import numpy as np

    from loadstone.backend import Model
    from loadstone.read.tensor import HostTensor

    Array = np.ndarray[Any, np.dtype[Any]]

NARROWING = 1e-9
"""The part of the old rows' covariance that new rows have, as in transformers: next to none."""


def resize_token_embeddings(
    model: Model, new_num_tokens: int, *, mean_resizing: bool = True, seed: int | None = None
) -> None:
    """Give a model's embedding and output layer another number of rows, in place, and its configuration too.

    Args:
        model: A model of any backend.
        new_num_tokens: Rows to have; the first ones keep their values.
        mean_resizing: Draw new rows from a normal distribution with the mean of the old ones, and their covariance times
            1e-9: a new token is then as likely as an average one. Else as a fresh model's: with mean 0 and standard
            deviation `initializer_range`, biases zero. Source: Hewitt 2021,
            https://nlp.stanford.edu/~johnhew/vocab-expansion.html.
        seed: Decides what is drawn; None: the framework's own generator does.

    Raises:
        ArgumentError: If the number is not positive, or the seed no whole number, or parameters
            stay on disk.
        PlacementError: If the model has no values.
        BackendError: If the backend gives no parameter another shape.
    """
    if new_num_tokens < 1:
        raise ArgumentError("a vocabulary has at least one token", found=new_num_tokens)
    refuse_on_disk(model, "gets no other vocabulary")
    backend = get_backend(model.backend_name)
    parameters = backend.parameters(model)
    device = with_values(backend.device(model.device))
    groups = [
        names for names in _vocabulary(model, parameters) if parameters[names[0]].shape[0] != new_num_tokens
    ]
    grows = any(parameters[owner].shape[0] < new_num_tokens for owner, *_ in groups)
    number = choose_seed(backend, seed) if grows else 0
    width = None if mean_resizing else model.config.get_text_config().initializer_range
    for owner, *tied in groups:
        tensor = resized(backend.read(model, owner), new_num_tokens, generator_of(number, owner), width)
        backend.resize(model, owner, tensor.shape)
        backend.put(model, owner, tensor, device)
        for name in tied:
            backend.tie(model, name, owner)
    # A copy: a clone of the model may share the old one.
    config = copy.deepcopy(model.config)
    config.update({"vocab_size": new_num_tokens})
    model.config = model.base_model.config = config


def _vocabulary(model: Model, parameters: Mapping[str, Parameter]) -> list[list[str]]:
    """Return the parameters whose first axis is the vocabulary, all names of one together, its owner first.

    They are the embedding's and the output layer's, and whatever an architecture or the model ties to one of them.
    """
    architecture, head = model.architecture_and_head()
    prefix = f"{head.prefix}." if head.prefix else ""
    names = {f"{prefix}{architecture.embedding}.weight", f"{head.output}.weight", f"{head.output}.bias"}
    pairs = [{tie.name, tie.to} for tie in head.ties]
    known: dict[object, set[str]] = {}
    for name, parameter in parameters.items():
        known.setdefault(_identity(parameter), set()).add(name)
    pairs += known.values()
    while more := set().union(*(pair for pair in pairs if pair & names)) - names:
        names |= more
    tied = {tie.name for tie in head.ties}
    groups = [[name for name in parameters if name in one] for one in known.values() if one & names]
    return [sorted(group, key=lambda name: name in tied) for group in groups]


def _identity(parameter: Parameter) -> object:
    return parameter.name if parameter.identity is None else parameter.identity


def resized(tensor: HostTensor, rows: int, generator: np.random.Generator, width: float | None) -> HostTensor:
    """Return a copy of a tensor with another number of rows.

    Args:
        tensor: The old one.
        rows: Rows to have.
        generator: Draws new ones.
        width: Their standard deviation about zero; None: they are drawn from the old ones' distribution.
    """
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
    if rows > kept:
        added = (
            _as_old(old, rows - kept, generator)
            if width is None
            else _as_fresh(old, rows - kept, generator, width)
        )
        values[kept:] = added.astype(old.dtype)
    return new


def _as_fresh(old: Array, number: int, generator: np.random.Generator, width: float) -> Array:
    import numpy as np

    if old.ndim == 1:
        return np.zeros(number, np.float32)
    return np.asarray(width * generator.standard_normal((number, *old.shape[1:]), np.float32))


def _as_old(old: Array, number: int, generator: np.random.Generator) -> Array:
    """Return rows from the distribution of the old ones; their mean where too few of them say how they spread."""
    import numpy as np

    values = old.reshape(len(old), -1).astype(np.float32)
    mean = values.mean(axis=0)
    drawn = generator.standard_normal((number, len(mean)), np.float32)
    if old.ndim == 1:
        spread = NARROWING * values.std(axis=0, ddof=1) if len(old) > 1 else np.zeros_like(mean)
        return np.asarray(mean + drawn * spread).reshape(number)
    centred = values - mean
    try:
        root = np.linalg.cholesky(NARROWING * (centred.T @ centred / len(old)))
    except np.linalg.LinAlgError:
        root = np.zeros((len(mean), len(mean)), np.float32)
    return np.asarray(mean + drawn @ root.T).reshape(number, *old.shape[1:])
