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

API = 1
"""The version of the plugin interface that this loadstone has: of the hooks, their records, and what those name."""


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
        api: The version of the plugin interface that it is written for.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    install: str
    backend: str
    models: str
    api: int = API

    def __post_init__(self) -> None:
        if isinstance(self.requires, str):
            raise TypeError(f"requires is a tuple of modules, found the text {self.requires!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureRecord:
    """Where an architecture is described.

    Attributes:
        model_type: The claim without `architecture.`, e.g. "qwen3".
        architecture: "module:attribute" of the `loadstone.architectures.Architecture`.
        api: The version of the plugin interface that it is written for.
    """

    model_type: str
    architecture: str
    api: int = API


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FormatRecord:
    """What core knows of a format before it is needed.

    Attributes:
        name: The claim without `format.`, e.g. "gguf".
        endings: How the names of its files of weights end, e.g. (".gguf",).
        format: "module:Class" of the `loadstone.checkpoint.formats.Format`.
        api: The version of the plugin interface that it is written for.
    """

    name: str
    endings: tuple[str, ...]
    format: str
    api: int = API

    def __post_init__(self) -> None:
        if isinstance(self.endings, str):
            raise TypeError(f"endings is a tuple of texts, found the text {self.endings!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """Where a source is that opens the checkpoints of a scheme.

    Attributes:
        scheme: The claim without `source.`, e.g. "s3" for `s3://bucket/name`.
        open: "module:function". It is called with the whole address and, by their names, with those of `revision`,
            `subfolder`, `cache_dir`, `token`, `force_download` and `local_files_only` that the caller gave; it returns
            a `loadstone.source.Snapshot`.
        api: The version of the plugin interface that it is written for.
    """

    scheme: str
    open: str
    api: int = API


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


@hookspec
def loadstone_formats() -> Iterable[FormatRecord]:
    """Offer formats of weights, claimed as `format.NAME`.

    Example:
        ```python
        from loadstone.hookspecs import FormatRecord, hookimpl

        @hookimpl
        def loadstone_formats():
            yield FormatRecord(name="toy", endings=(".toy",), format="loadstone_toy.format:ToyFormat")
        ```

    Returns:
        One record per format.
    """
    raise NotImplementedError


@hookspec
def loadstone_sources() -> Iterable[SourceRecord]:
    """Offer sources of checkpoints, claimed as `source.SCHEME`.

    Example:
        ```python
        from loadstone.hookspecs import SourceRecord, hookimpl

        @hookimpl
        def loadstone_sources():
            yield SourceRecord(scheme="toy", open="loadstone_toy.source:open_toy")
        ```

    Returns:
        One record per scheme.
    """
    raise NotImplementedError
