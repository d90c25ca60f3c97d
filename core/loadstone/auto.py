"""The Auto classes, and the lookup behind every public name of `loadstone` that is not written down anywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from loadstone import _names
from loadstone.errors import ArgumentError, nearest
from loadstone.keywords import ConfigArguments, told
from loadstone.load.arguments import LoadArguments, MakeArguments

if TYPE_CHECKING:
    from loadstone.architectures import Architecture, Head
    from loadstone.config import Config
    from loadstone.source import Name

# All else is imported where it is first used: naming an Auto class costs neither numpy nor an architecture.

UNPREFIXED = "torch"
"""The backend whose classes have names without a prefix, as transformers has them."""


class AutoConfig:
    """Makes the configuration class that a checkpoint's `model_type` asks for."""

    # Not NoReturn: a type checker would take the class for a function that never returns.
    def __init__(self) -> None:
        raise TypeError(
            "AutoConfig is not instantiated: call AutoConfig.from_pretrained or AutoConfig.for_model"
        )

    @staticmethod
    @told(ConfigArguments)
    def from_pretrained(pretrained_model_name_or_path: Name, **arguments: Any) -> Config:
        """Load a configuration.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub.
            **arguments: Fields of the configuration (`num_labels=3`), which replace the file's.

        Raises:
            SourceError: If there is no such folder, repository or revision.
            ConfigError: If config.json is missing, or says something impossible.
            ArgumentError: If an argument is neither known nor a field.
        """
        from loadstone.load.configuration import load_config

        config: Config = load_config(pretrained_model_name_or_path, **arguments)
        return config

    @staticmethod
    def for_model(model_type: str, **fields: Any) -> Config:
        """Return a configuration of a model type with its defaults, and the fields given.

        Example:
            >>> AutoConfig.for_model("bert", num_hidden_layers=2).num_hidden_layers
            2
        """
        from loadstone.architectures import architecture_for

        return architecture_for(model_type).config(**fields)

    @staticmethod
    def register(model_type: str, config: type[Config], exist_ok: bool = False) -> None:
        """Register a configuration class of one's own; `loadstone.backend.registered.register_config` tells more.

        Args:
            model_type: As config.json has it, and `config.model_type`.
            config: A subclass of a known architecture's configuration (`LlamaConfig`). What is no such architecture with more or
                other fields is described by `loadstone.register`.
            exist_ok: Replace what was registered under this model type before.

        Raises:
            ArgumentError: If the class derives from no known one, or the model type is another's.

        Example:
            ```python
            class MyConfig(LlamaConfig):
                model_type = "my-llama"

            AutoConfig.register("my-llama", MyConfig)
            AutoModelForCausalLM.register(MyConfig, MyForCausalLM)
            ```
        """
        from loadstone.backend.registered import register_config

        register_config(model_type, config, exist_ok=exist_ok)


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
    @told(LoadArguments)
    def from_pretrained(
        cls, pretrained_model_name_or_path: Name | None, *, backend: str | None = None, **arguments: Any
    ) -> Any:
        """Load a checkpoint; `loadstone.load.story.from_pretrained` tells the errors.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub ("org/name"); None with `config=` and `state_dict=`.
            backend: "torch", "flax", "tensorflow", ...; without it `LOADSTONE_BACKEND` decides, else the installed
                framework of highest priority.
            **arguments: Fields of the configuration (`num_labels=3`), which replace the file's.

        Returns:
            The model, in inference mode; `model.load_report` says what became of every tensor.

        Example:
            ```python
            from loadstone import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained("org/name", dtype="auto", device_map="auto")
            ```
        """
        from loadstone.load.story import from_pretrained

        chosen = cls._backend(backend)
        return from_pretrained(pretrained_model_name_or_path, task=cls.task, backend=chosen, **arguments)

    @classmethod
    @told(MakeArguments)
    def from_config(cls, config: Config, *, backend: str | None = None, **options: Any) -> Any:
        """Return a model with fresh weights; `loadstone.load.create.from_config` tells the errors.

        Args:
            config: It is copied.
            backend: As in `from_pretrained`.
            **options: Keyword arguments of the model class (`add_pooling_layer`).
        """
        from loadstone.load.create import from_config

        return from_config(config, task=cls.task, backend=cls._backend(backend), **options)

    @classmethod
    def register(
        cls,
        config_class: type[Config],
        model_class: type,
        exist_ok: bool = False,
        *,
        backend: str | None = None,
    ) -> None:
        """Register the class that this one loads for a registered configuration.

        Args:
            config_class: As `AutoConfig.register` had it.
            model_class: The class. What is saved names it, without its backend's prefix.
            exist_ok: Replace the class that was registered before.
            backend: The backend that the class is of; None: as it says itself.

        Raises:
            ArgumentError: If the configuration is not registered, or the class is another configuration's, another backend's, or
                not the first one.
            ArchitectureError: If the architecture has no such head, or the class lacks what every model has.
            PluginError: If there is no such backend.
        """
        from loadstone.backend.registered import register_model

        own = str(cls._backend(backend) or getattr(model_class, "backend_name", UNPREFIXED))
        register_model(cls.task, config_class, model_class, backend=own.partition("@")[0], exist_ok=exist_ok)

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


def lookup(name: str, *others: str) -> Any:
    """Return what a public name of `loadstone` stands for: an Auto class, a configuration or a model class.

    `FlaxBertModel` is the Flax backend's, `BertModel` PyTorch's, `AutoModelForMaskedLM` any backend's.

    Args:
        name: It.
        others: Names that are written down elsewhere, and may have been meant too.

    Raises:
        AttributeError: If nothing has that name; it names the nearest.
        PluginError: If two backends claim its prefix.
        MissingFrameworkError: If the class belongs to a framework that is not installed.
    """
    if found := _ours(name, "", []):
        return found()
    from loadstone.plugins import class_prefixes

    for prefix, backends in class_prefixes().items():
        if name.startswith(prefix) and (found := _ours(name, prefix, backends)):
            return found()
    return _of_a_plugin(name, others)


def _ours(name: str, prefix: str, backends: list[str]) -> Callable[[], Any] | None:
    """Return what makes a name of the table, with a prefix that backends claim; None if the table has no such name."""
    bare = name.removeprefix(prefix)
    if bare in _names.CONFIGS and not prefix:
        return functools.partial(_config_class, _names.CONFIGS[bare])
    if bare in (tasks := {_auto_name(task): task for task in _names.TASKS}):
        return functools.partial(_auto_class, tasks[bare], prefix, backends, name)
    if bare in _names.HEADS:
        return functools.partial(_listed_class, bare, prefix, backends)
    if (base := _base_of(bare)) in _names.HEADS:
        return functools.partial(_listed_class, base, prefix, backends, for_heads=True)
    return None


PRETRAINED = "PreTrainedModel"
"""How the name of the class ends on which heads of one's own stand."""


def _base_of(name: str) -> str:
    """Return the base model whose heads derive from a class of this name; "" for any other name."""
    return f"{name.removesuffix(PRETRAINED)}Model" if name.endswith(PRETRAINED) else ""


def _of_a_plugin(name: str, others: Sequence[str]) -> Any:
    """Return what a name that is not in the table stands for. Raises as `lookup` does."""
    from loadstone.architectures import passed_over, unlisted

    # Each architecture is asked for everything before the next one is: plugins are imported one by one.
    for architecture in unlisted():
        if found := _public(name, architecture):
            return found()
    left_out = list(passed_over())
    for error, rivals in left_out:
        if any(_public(name, architecture) for architecture in rivals):
            raise error
    about = "".join(f"; left out: {error.what}" for error, _ in left_out[:3])
    meant = nearest(name, [*public_names(), *others])
    raise AttributeError(
        f"module 'loadstone' has no attribute {name!r}{f'; {meant}' if meant else ''}{about}"
    )


def _public(name: str, architecture: Architecture) -> Callable[[], Any] | None:
    """Return what makes a public name of an architecture, or None if it has no such name."""
    from loadstone.plugins import class_prefixes

    if architecture.config.__name__ == name:
        return lambda: architecture.config
    prefixed = [
        (prefix, backends) for prefix, backends in class_prefixes().items() if name.startswith(prefix)
    ]
    for prefix, backends in [*prefixed, ("", [])]:
        for head in architecture.heads:
            if name.removeprefix(prefix) == _auto_name(head.task):
                return functools.partial(_auto_class, head.task, prefix, backends, name)
            if name.removeprefix(prefix) == head.class_name:
                return functools.partial(_model_class, architecture, head, prefix, backends)
            if _base_of(name.removeprefix(prefix)) == head.class_name:
                return functools.partial(_class_for_heads, architecture, head, prefix, backends)
    return None


def _auto_name(task: str) -> str:
    return f"AutoModelFor{task}" if task else "AutoModel"


def _config_class(model_type: str) -> type[Config]:
    from loadstone.architectures.registry import built_in

    return built_in()[model_type].config


def _auto_class(task: str, prefix: str, backends: list[str], name: str) -> type[AutoModel]:
    return auto_class(task, _only(prefix, backends), name)


def _listed_class(class_name: str, prefix: str, backends: list[str], *, for_heads: bool = False) -> type:
    from loadstone.architectures import find_head

    found = find_head(class_name)
    assert found, class_name  # the table names it
    return (_class_for_heads if for_heads else _model_class)(*found, prefix, backends)


def _class_for_heads(architecture: Architecture, head: Head, prefix: str, backends: list[str]) -> type:
    from loadstone.model.classes import class_for_heads

    return class_for_heads(_model_class(architecture, head, prefix, backends), architecture)


def _model_class(architecture: Architecture, head: Head, prefix: str, backends: list[str]) -> type:
    from loadstone.backend import get_backend

    return get_backend(_only(prefix, backends) or UNPREFIXED).model_class(architecture, head)


def _only(prefix: str, backends: list[str]) -> str | None:
    """Return the one backend that claims a prefix; None for no prefix."""
    if len(backends) > 1:
        from loadstone.plugins import class_prefix_claims, conflict

        rivals = class_prefix_claims()[prefix]
        raise conflict(f"{len(rivals)} backends claim the class prefix {prefix!r}", rivals)
    return backends[0] if backends else None


def public_names() -> list[str]:
    """Return every name that `lookup` finds."""
    from loadstone.architectures import unlisted
    from loadstone.plugins import class_prefixes

    others = list(unlisted())
    classes = {*_names.HEADS, *map(_auto_name, _names.TASKS)}
    classes |= {
        f"{name.removesuffix('Model')}{PRETRAINED}" for name, (_, task) in _names.HEADS.items() if not task
    }
    for architecture in others:
        classes |= {name for head in architecture.heads for name in (head.class_name, _auto_name(head.task))}
    prefixed = {prefix + name for prefix in class_prefixes() for name in classes}
    return sorted(classes | prefixed | {*_names.CONFIGS} | {one.config.__name__ for one in others})
