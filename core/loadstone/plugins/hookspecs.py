"""The hooks that a plugin may implement. loadstone's own backends use no others.

A plugin is a module named by an entry point of the group `loadstone`; the entry point's name is its claim, e.g.
`backend.torch` or `architecture.qwen3`. The module is imported when its claim is asked for, never before; so it must
not import its framework: records name what is heavy as "module:attribute" strings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pluggy

hookspec = pluggy.HookspecMarker("loadstone")
hookimpl = pluggy.HookimplMarker("loadstone")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackendRecord:
    """What core knows of a backend before its framework is imported.

    Attributes:
        name: The claim without `backend.`, e.g. "torch".
        title: The framework's name for people, e.g. "PyTorch".
        requires: Top-level modules that must be importable.
        install: The command that installs them.
        backend: "module:Class" of the `loadstone.backend.Backend`.
        models: Package that holds one module per family with the model classes.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    install: str
    backend: str
    models: str

    def __post_init__(self) -> None:
        if isinstance(self.requires, str):
            raise TypeError(f"requires is a tuple of modules, found the text {self.requires!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureRecord:
    """Where an architecture is described.

    Attributes:
        model_type: The claim without `architecture.`, e.g. "qwen3".
        architecture: "module:attribute" of the `loadstone.architectures.Architecture`.
    """

    model_type: str
    architecture: str


@hookspec
def loadstone_backends() -> Iterable[BackendRecord]:
    """Offer backends, claimed as `backend.NAME`.

    Example:
        ```python
        from loadstone.hookspecs import BackendRecord, hookimpl

        @hookimpl
        def loadstone_backends():
            yield BackendRecord(
                name="toy", title="Toy", requires=("toy",), install="pip install toy",
                backend="loadstone_toy.backend:ToyBackend", models="loadstone_toy.models",
            )
        ```

    Returns:
        One record per backend.
    """
    raise NotImplementedError


@hookspec
def loadstone_architectures() -> Iterable[ArchitectureRecord]:
    """Offer architectures, claimed as `architecture.MODEL_TYPE`.

    Example:
        ```python
        from loadstone.hookspecs import ArchitectureRecord, hookimpl

        @hookimpl
        def loadstone_architectures():
            yield ArchitectureRecord(model_type="toy", architecture="toy_models.architecture:TOY")
        ```

    Returns:
        One record per model type.
    """
    raise NotImplementedError
