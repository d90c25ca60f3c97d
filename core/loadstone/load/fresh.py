"""Drawing parameters that no checkpoint holds: the same numbers in every framework, from one seed."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from loadstone.architectures import Architecture, matches
from loadstone.config import Config

if TYPE_CHECKING:
    import numpy as np

    from loadstone.planning.records import Assignment
    from loadstone.read.tensor import HostTensor


def draw(
    assignment: Assignment, *, base_name: str, architecture: Architecture, config: Config, seed: int
) -> HostTensor:
    """Return a fresh value for one parameter.

    A `bias` is zeros, any other vector ones (they scale a normalised value), anything else normal with mean 0 and
    standard deviation `config.initializer_range`, unless the architecture's `drawn` says otherwise. A counter is zero, and the row of the
    padding token in the embedding is zeros. The numbers depend on the seed and the parameter's name alone.

    Args:
        assignment: Name, shape and dtype.
        base_name: The name without the base model's prefix.
        architecture: Exceptions to the rule, and which module is the embedding.
        config: `initializer_range` and `pad_token_id`.
        seed: Any integer.
    """
    import numpy as np

    from loadstone.dtypes import DTYPES, nbytes
    from loadstone.read.cast import cast
    from loadstone.read.memory import aligned_empty
    from loadstone.read.tensor import HostTensor

    kind = _kind(base_name, assignment.shape, architecture)
    data = aligned_empty(nbytes(assignment.dtype, assignment.shape))
    if DTYPES[assignment.dtype].kind != "float":
        data[:] = 0
        return HostTensor(name=assignment.name, dtype=assignment.dtype, shape=assignment.shape, data=data)
    if kind in ("normal", "fan_out"):
        values = generator_of(seed, assignment.name).standard_normal(assignment.shape, np.float32)
        values *= config.initializer_range if kind == "normal" else _fan_out(assignment.shape)
        pad = config.pad_token_id
        if base_name == f"{architecture.embedding}.weight" and pad is not None and 0 <= pad < len(values):
            values[pad] = 0
    else:
        values = np.full(assignment.shape, 1 if kind == "ones" else 0, np.float32)
    cast(np.atleast_1d(values).reshape(-1).view(np.uint8), "float32", data, assignment.dtype)
    return HostTensor(name=assignment.name, dtype=assignment.dtype, shape=assignment.shape, data=data)


def generator_of(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one parameter's numbers, which the order of parameters does not change."""
    import numpy as np

    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))


def _fan_out(shape: tuple[int, ...]) -> float:
    """Return the standard deviation that keeps gradients in scale through a rectified convolution, after He et al."""
    return math.sqrt(2 / (shape[0] * math.prod(shape[2:])))


def _kind(name: str, shape: tuple[int, ...], architecture: Architecture) -> str:
    for pattern, kind in architecture.drawn.items():
        if matches(pattern, name):
            return kind
    if name.rpartition(".")[2] == "bias":
        return "zeros"
    return "ones" if len(shape) <= 1 else "normal"
