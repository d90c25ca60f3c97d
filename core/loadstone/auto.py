"""The Auto classes, and the lookup behind every public name of `loadstone` that is not written down anywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from loadstone.architectures import Architecture, Head, architecture_for, architectures, passed_over
from loadstone.backend import get_backend
from loadstone.config import Config
from loadstone.errors import ArgumentError, nearest
from loadstone.load.configuration import load_config
from loadstone.load.create import from_config
from loadstone.load.story import from_pretrained
from loadstone.plugins import conflict, prefix_claims, prefixes
from loadstone.source import Name

UNPREFIXED = "torch"
"""The backend whose classes have names without a prefix, as transformers has them."""


class AutoConfig:
    """Makes the configuration class that a checkpoint's `model_type` asks for."""

    def __init__(self) -> NoReturn:
        raise TypeError(
            "AutoConfig is not instantiated: call AutoConfig.from_pretrained or AutoConfig.for_model"
        )

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: Name, **arguments: Any) -> Config:
        """Load a configuration.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub.
            **arguments: `revision`, `subfolder`, `cache_dir`, `token`, `force_download`, `local_files_only`, `model_type`
                (where the file does not say it, or in its place), and fields that replace the file's.

        Raises:
            SourceError: If there is no such folder, repository or revision.
            ConfigError: If config.json is missing, or says something impossible.
            ArgumentError: If an argument is neither known nor a field.
        """
        return load_config(pretrained_model_name_or_path, **arguments)

    @staticmethod
    def for_model(model_type: str, **fields: Any) -> Config:
        """Return a configuration of a model type with its defaults, and the fields given.

        Example:
            >>> AutoConfig.for_model("bert", num_hidden_layers=2).num_hidden_layers
            2
        """
        return architecture_for(model_type).config(**fields)


class AutoModel:
    """Loads the base model that a checkpoint's configuration asks for; subclasses load one with a task head.

    Attributes:
        task: What follows `AutoModelFor`; "" here.
        backend: The framework of a prefixed class; None: the caller's `backend=`, or the default one.
    """

    task: ClassVar[str] = ""
    backend: ClassVar[str | None] = None

    def __init__(self) -> None:
        name = type(self).__name__
        raise TypeError(f"{name} is not instantiated: call {name}.from_pretrained or {name}.from_config")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Name, *, backend: str | None = None, **arguments: Any
    ) -> Any:
        """Load a checkpoint; `loadstone.load.story.from_pretrained` tells the arguments and errors.

        Example:
            ```python
            from loadstone import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained("org/name", dtype="auto", device_map="auto")
            ```
        """
        chosen = cls._backend(backend)
        return from_pretrained(pretrained_model_name_or_path, task=cls.task, backend=chosen, **arguments)

    @classmethod
    def from_config(cls, config: Config, *, backend: str | None = None, **arguments: Any) -> Any:
        """Return a model with fresh weights; `loadstone.load.create.from_config` tells the arguments and errors."""
        return from_config(config, task=cls.task, backend=cls._backend(backend), **arguments)

    @classmethod
    def _backend(cls, asked: str | None) -> str | None:
        if (
            cls.backend is not None
            and (asked or cls.backend).partition("@")[0] != cls.backend.partition("@")[0]
        ):
            raise ArgumentError(
                f"{cls.__name__} loads into the backend {cls.backend!r}",
                found=f"backend={asked!r}",
                hint="leave backend= out, or use the class without a prefix",
            )
        return asked or cls.backend


@functools.cache
def auto_class(task: str, backend: str | None, name: str) -> type[AutoModel]:
    """Return the Auto class of a task, for one backend or, with None, for any."""
    if not task and backend is None:
        return AutoModel
    about = f"Loads a checkpoint with a head for {task}." if task else "Loads a base model."
    namespace = {"task": task, "backend": backend, "__doc__": about, "__module__": "loadstone"}
    made: type[AutoModel] = type(name, (AutoModel,), namespace)
    return made


def lookup(name: str) -> Any:
    """Return what a public name of `loadstone` stands for: an Auto class, a configuration or a model class.

    `FlaxBertModel` is the Flax backend's, `BertModel` PyTorch's, `AutoModelForMaskedLM` any backend's.

    Raises:
        AttributeError: If nothing has that name; it names the nearest.
        PluginError: If two backends claim its prefix.
        MissingFrameworkError: If the class belongs to a framework that is not installed.
    """
    # Each architecture is asked for everything before the next one is: ours come first, plugins are imported last.
    for architecture in architectures():
        if found := _public(name, architecture):
            return found()
    left_out = list(passed_over())
    for error, rivals in left_out:
        if any(_public(name, architecture) for architecture in rivals):
            raise error
    about = "".join(f"; left out: {error.what}" for error, _ in left_out[:3])
    raise AttributeError(
        f"module 'loadstone' has no attribute {name!r}; {nearest(name, public_names()) or ''}{about}"
    )


def _public(name: str, architecture: Architecture) -> Callable[[], Any] | None:
    """Return what makes a public name of an architecture, or None if it has no such name."""
    if architecture.config.__name__ == name:
        return lambda: architecture.config
    prefixed = [(prefix, backends) for prefix, backends in prefixes().items() if name.startswith(prefix)]
    for prefix, backends in [*prefixed, ("", [])]:
        for head in architecture.heads:
            if name.removeprefix(prefix) == f"AutoModel{'For' * bool(head.task)}{head.task}":
                return functools.partial(_auto_class, head.task, prefix, backends, name)
            if name.removeprefix(prefix) == head.class_name:
                return functools.partial(_model_class, architecture, head, prefix, backends)
    return None


def _auto_class(task: str, prefix: str, backends: list[str], name: str) -> type[AutoModel]:
    return auto_class(task, _only(prefix, backends), name)


def _model_class(architecture: Architecture, head: Head, prefix: str, backends: list[str]) -> type:
    return get_backend(_only(prefix, backends) or UNPREFIXED).model_class(architecture, head)


def _only(prefix: str, backends: list[str]) -> str | None:
    """Return the one backend that claims a prefix; None for no prefix."""
    if len(backends) > 1:
        rivals = prefix_claims()[prefix]
        raise conflict(f"{len(rivals)} backends claim the class prefix {prefix!r}", rivals)
    return backends[0] if backends else None


def _tasks() -> set[str]:
    return {head.task for architecture in architectures() for head in architecture.heads}


def public_names() -> list[str]:
    """Return every name that `lookup` finds."""
    names = {f"AutoModelFor{task}" if task else "AutoModel" for task in _tasks()}
    for architecture in architectures():
        names |= {head.class_name for head in architecture.heads}
    prefixed = {prefix + name for prefix in prefixes() for name in names}
    return sorted(names | prefixed | {architecture.config.__name__ for architecture in architectures()})
