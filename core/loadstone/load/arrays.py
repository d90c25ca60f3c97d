"""Arrays that the caller has in the place of files: what `state_dict=` holds, of whatever framework, or numpy's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadstone import plugins
from loadstone.backend import get_backend
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.dtypes import canonical, nbytes
from loadstone.errors import ArgumentError, PluginError
from loadstone.read.tensor import HostTensor, from_numpy
from loadstone.source import Snapshot, SourceFile

HERE = "state_dict"
"""What stands in a report for the name of a repository and of a file."""


class NoFiles(Snapshot):
    """The snapshot of a load that reads no file."""

    def __init__(self) -> None:
        Snapshot.__init__(self, location=HERE, commit=None, root=None, files={})

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        return []

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        return b""


def index_of(state_dict: object) -> TensorIndex:
    """Return what a state dict holds, from the dtypes and shapes of its arrays; no number of them is looked at.

    Raises:
        ArgumentError: If it is no mapping of names to arrays; all that is none is named at once.
    """
    if not isinstance(state_dict, Mapping):
        raise _no_arrays(found=type(state_dict).__name__)
    tensors, problems = {}, []
    for name, value in state_dict.items():
        try:
            dtype, shape = canonical(value.dtype), tuple(map(int, value.shape))
        except (AttributeError, TypeError, ArgumentError) as error:
            problems.append(f"{name}: {type(value).__name__}: {error}".splitlines()[0])
            continue
        size = nbytes(dtype, shape)
        tensors[str(name)] = TensorInfo(
            name=str(name), dtype=dtype, shape=shape, file=HERE, offset=0, nbytes=size
        )
    if problems:
        raise _no_arrays(problems=problems)
    return TensorIndex(tensors=tensors, files=(HERE,))


def _no_arrays(found: object = None, problems: Sequence[str] = ()) -> ArgumentError:
    return ArgumentError(
        "state_dict= is no mapping of parameters' names to arrays",
        expected="arrays of PyTorch, JAX, TensorFlow or numpy, under the names that checkpoints have",
        found=found,
        problems=problems,
        hint="pass model.state_dict(), or what read a file of weights",
    )


def on_host(name: str, value: Any) -> HostTensor:
    """Return an array of any framework on the host: its own memory where it lies there in one piece.

    Raises:
        ArgumentError: If its numbers do not simply lie in memory.
    """
    roots = {one.__module__.partition(".")[0] for one in type(value).__mro__}
    backends = plugins.claims_of("backend")
    for backend in sorted(backends, key=lambda name: not any(map(plugins.is_first_party, backends[name]))):
        with contextlib.suppress(PluginError):  # a broken plugin's framework made no array of anybody's
            if not roots.isdisjoint(plugins.backend_record(backend).requires):
                return get_backend(backend).to_host(name, value)
    return from_numpy(name, value)
