"""Architectures and classes of one's own, made known at run time: no entry point, and gone with the process."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import threading
from collections.abc import Iterator, Mapping

from loadstone import plugins
from loadstone.architectures import Architecture, Head, architecture_for, head_for, model_types, registry
from loadstone.backend.model import bind, bound_to_another, methods_lacking
from loadstone.config import Config
from loadstone.errors import ArchitectureError, ArgumentError, PluginError, nearest

_lock = threading.RLock()
_classes: dict[tuple[str, str, str], type] = {}
"""Model type, class name as the head has it, backend -> the class."""


def register(
    architecture: Architecture,
    classes: Mapping[str, type | Mapping[str, type]],
    *,
    exist_ok: bool = False,
) -> None:
    """Make an architecture and its classes known to this process, as an entry point would to every process.

    Auto classes, `from_pretrained`, `from_config`, `plan` and `loadstone.NAME` then find them, and what is saved names them.
    An architecture may be registered again with further classes: each framework's where that framework is imported.

    Args:
        architecture: What is true of the model in every framework.
        classes: Backend ("torch", "flax", "tensorflow", ...) -> the class of the head that has its name, or of the only
            head; or task as `Head.task` has it -> class.
        exist_ok: Replace an architecture of the same model type that was registered before, with all its classes.

    Raises:
        ArgumentError: If the model type is loadstone's, a plugin's, or registered already; if no head is meant by a class; or
            if a class is of another backend than it is given for.
        ArchitectureError: If a class lacks what every model has, or is bound to another architecture or head.
        PluginError: If there is no such backend.

    Example:
        ```python
        loadstone.register(TOY, {"torch": ToyModel, "flax": FlaxToyModel})
        model = loadstone.AutoModel.from_pretrained("path/to/toy", backend="flax")
        ```
    """
    _check_architecture(architecture)
    found = {}
    for backend, given in classes.items():
        for head, cls in _heads(architecture, backend, given):
            _check_class(cls, backend, architecture, head)
            found[architecture.model_type, head.class_name, backend] = cls
    with _lock:
        _check_free(architecture, found, exist_ok=exist_ok)
        if registry.registered.get(architecture.model_type, architecture) is not architecture:
            _forget(architecture.model_type)
        for (_, class_name, _), cls in found.items():
            bind(cls, architecture, next(one for one in architecture.heads if one.class_name == class_name))
        _classes.update(found)
        registry.registered[architecture.model_type] = architecture


def register_config(model_type: str, config: type[Config], *, exist_ok: bool = False) -> None:
    """Register a configuration of one's own.

    One that derives from a known architecture's is that architecture under a name of its own: its classes are those of that
    one, until `register_model` names others. Any other has the classes that `register_model` names, which read it as it is.

    Args:
        model_type: As config.json has it, and `config.model_type`.
        config: The class.
        exist_ok: As in `register`.

    Raises:
        ArgumentError: If it is no configuration, or as in `register`.
    """
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise ArgumentError(
            "only a class of configurations can be registered",
            expected="a subclass of loadstone.Config, or of LlamaConfig, say",
            found=getattr(config, "__name__", repr(config)),
            hint="derive it from loadstone.Config",
        )
    from loadstone.backend.adoption import blank

    base = next(filter(None, map(_described_by, config.__mro__[1:])), None) or blank(config)
    register(dataclasses.replace(base, model_type=model_type, config=config), {}, exist_ok=exist_ok)


def _described_by(config: type) -> Architecture | None:
    """Return the architecture that has a class as its configuration, None where there is none."""
    model_type = getattr(config, "model_type", "")
    found = architecture_for(model_type) if model_type in model_types() else None
    return found if found is not None and found.config is config else None


def register_model(
    task: str, config: type[Config], model_class: type, *, backend: str, exist_ok: bool = False
) -> None:
    """Register the class that a task has for a registered configuration.

    Args:
        task: What follows `AutoModelFor`; "" for the base model.
        config: The configuration's class.
        model_class: The class. What is saved names it, without its backend's prefix.
        backend: The backend that it is of.
        exist_ok: Replace the class that was registered before.

    Raises:
        ArgumentError: If the configuration is not registered, or the class is another configuration's, another backend's, or
            not the first one.
        ArchitectureError: If there is no head for the task, or as in `register`.
        PluginError: As in `register`.
    """
    from loadstone.backend.adoption import is_made

    _check_config(model_class, config)
    name = model_class.__name__.removeprefix(plugins.class_prefix_of(backend))
    with _lock:
        former = _registered_for(config)
        if is_made(former) and all(head.task != task for head in former.heads):
            former = dataclasses.replace(
                former, heads=(*former.heads, Head(task=task, class_name=name, prefix=""))
            )
        old = head_for(former, task)
        head = dataclasses.replace(old, class_name=name)
        classes = _classes_of(former)
        mine = {at: cls for (at, of), cls in classes.items() if of == task}
        # A head has one name in all backends: a class of another name takes the place of all that it had.
        rivals = [cls for at, cls in mine.items() if at == backend or head != old]
        if any(cls is not model_class for cls in rivals) and not exist_ok:
            raise _taken(rivals[0], old, former, backend)
        given: dict[str, dict[str, type]] = {backend: {task: model_class}}
        for (at, of), cls in classes.items():
            if of != task or cls not in rivals:
                given.setdefault(at, {}).setdefault(of, cls)
        heads = tuple(head if one is old else one for one in former.heads)
        register(dataclasses.replace(former, heads=heads), given, exist_ok=True)


def _registered_for(config: type[Config]) -> Architecture:
    """Return the registered architecture of a configuration class.

    Raises:
        ArgumentError: If there is none.
    """
    found = registry.registered.get(config.model_type)
    if found is None or found.config is not config:
        raise ArgumentError(
            f"{config.__name__} is not registered",
            expected=", ".join(one.config.__name__ for one in registry.registered.values()) or "none is",
            hint=f'call AutoConfig.register("my-{config.model_type}", MyConfig) first, with a class and a model type of your own',
        )
    return found


def _classes_of(architecture: Architecture) -> dict[tuple[str, str], type]:
    """Return backend and task -> the class that was registered for an architecture."""
    tasks = {head.class_name: head.task for head in architecture.heads}
    found = {key: cls for key, cls in _classes.items() if key[0] == architecture.model_type}
    return {(backend, tasks[name]): cls for (_, name, backend), cls in found.items()}


def _check_config(model_class: type, config: type[Config]) -> None:
    """Raise an ArgumentError if a class says that its configurations are of another class, as in transformers."""
    said = inspect.getattr_static(model_class, "config_class", None)
    if isinstance(said, type) and said is not config:
        raise ArgumentError(
            f"{model_class.__name__} has another config_class",
            expected=config.__name__,
            found=said.__name__,
            hint="make the two one",
        )


def unregister(model_type: str) -> None:
    """Forget an architecture that was registered, and its classes.

    Raises:
        ArgumentError: If none was registered under this model type.
    """
    with _lock:
        if model_type not in registry.registered:
            raise ArgumentError(
                f"no architecture {model_type!r} was registered",
                expected=f"one of: {', '.join(registry.registered) or 'none is'}",
                hint=nearest(model_type, registry.registered) or "loadstone.register makes one known",
            )
        _forget(model_type)


def registered_class(architecture: Architecture, head: Head, backend: str) -> type | None:
    """Return the class that was registered for a head in a backend, None for none."""
    return _classes.get((architecture.model_type, head.class_name, backend))


def is_registered(architecture: Architecture) -> bool:
    """Return whether an architecture was made known at run time."""
    return registry.registered.get(architecture.model_type) is architecture


def _forget(model_type: str) -> None:
    gone = registry.registered.pop(model_type)
    for key in [key for key in _classes if key[0] == model_type]:
        del _classes[key]
    # What was found under a name of its classes stays at hand in the top package.
    names = {gone.config.__name__, *(head.class_name for head in gone.heads)}
    for name in [*names, *(prefix + name for prefix in plugins.class_prefixes() for name in names)]:
        vars(sys.modules["loadstone"]).pop(name, None)


def _check_architecture(architecture: Architecture) -> None:
    if not isinstance(architecture, Architecture):
        raise ArgumentError(
            "only an architecture can be registered",
            expected="a loadstone.architectures.Architecture",
            found=type(architecture).__name__,
            hint="docs/extending.md tells how one is described",
        )
    if architecture.config.model_type != architecture.model_type:
        raise ArgumentError(
            f"the architecture {architecture.model_type!r} has a configuration of another model type",
            where=f"{architecture.config.__module__}.{architecture.config.__qualname__}",
            expected=f"model_type = {architecture.model_type!r}",
            found=repr(architecture.config.model_type),
            hint="its checkpoints say the configuration's: make the two one",
        )


def _heads(
    architecture: Architecture, backend: str, given: type | Mapping[str, type]
) -> Iterator[tuple[Head, type]]:
    """Yield the classes that were given for a backend, each with the head that is meant."""
    _check_backend(backend)
    heads = architecture.heads
    if isinstance(given, Mapping):
        tasks = {head.task: head for head in heads}
        for task, cls in given.items():
            if task not in tasks:
                raise _no_head(architecture, backend, f"a class for the task {task!r}", map(repr, tasks))
            yield tasks[task], cls
        return
    own = getattr(given, "__name__", "")
    names = (own, own.removeprefix(plugins.class_prefix_of(backend)))
    meant = [head for head in heads if head.class_name in names] or (heads if len(heads) == 1 else ())
    if not meant:
        raise _no_head(architecture, backend, own or repr(given), (head.class_name for head in heads))
    yield meant[0], given


def _no_head(architecture: Architecture, backend: str, found: str, known: Iterator[str]) -> ArgumentError:
    return ArgumentError(
        f"the architecture {architecture.model_type!r} has no such head",
        where=f"register(..., {{{backend!r}: ...}})",
        expected=f"one of: {', '.join(known)}",
        found=found,
        hint=f'say which is meant: {{{backend!r}: {{"CausalLM": TheClass}}}}, "" for the base model',
    )


def _check_backend(backend: str) -> None:
    known = plugins.claims_of("backend")
    if backend not in known:
        raise PluginError(
            f"no plugin offers the backend {backend!r}",
            expected=f"one of: {', '.join(known)}",
            hint=nearest(backend, known) or "see `loadstone plugins`",
        )


def _check_class(cls: type, backend: str, architecture: Architecture, head: Head) -> None:
    """Raise if a class cannot be the one of a head in a backend; nothing is built for it."""
    own = getattr(cls, "backend_name", None)
    if not isinstance(cls, type) or own is None or own.partition("@")[0] != backend:
        raise ArgumentError(
            f"{getattr(cls, '__name__', cls)!s:.80} is no model class of the backend {backend!r}",
            expected=f"a class with backend_name = {backend!r}",
            found=f"backend_name = {own!r}" if own is not None else "a class without one",
            hint="derive it from the PreTrainedModel of the backend",
        )
    if lacking := methods_lacking(cls):
        raise ArchitectureError(
            f"{cls.__name__} lacks what every model has",
            where=f"{cls.__module__}.{cls.__qualname__}",
            expected="all of loadstone.backend.Model",
            problems=lacking,
            hint="derive the class from loadstone.pretrained.Pretrained",
        )
    if (error := bound_to_another(cls, architecture, head)) is not None:
        raise error


def _check_free(
    architecture: Architecture, found: Mapping[tuple[str, str, str], type], *, exist_ok: bool
) -> None:
    """Raise an ArgumentError if a model type, or a class of it, is somebody else's."""
    model_type = architecture.model_type
    rivals = plugins.claims_of("architecture").get(model_type, [])
    if model_type in registry.built_in() or rivals:
        whose = "a plugin's" if rivals else "loadstone's own"
        raise ArgumentError(
            f"the model type {model_type!r} is {whose}",
            problems=[str(claim) for claim in rivals],
            hint=f'give the architecture another, and load checkpoints of {model_type!r} with model_type="..."',
        )
    former = registry.registered.get(model_type)
    if former is None or exist_ok:
        return
    if former is not architecture:
        raise ArgumentError(
            f"another architecture is registered as {model_type!r}",
            found=f"{', '.join(head.class_name for head in former.heads)} with {former.config.__name__}",
            hint="give it another model type, or replace that one with exist_ok=True",
        )
    for key, cls in found.items():
        if (before := _classes.get(key, cls)) is not cls:
            head = next(head for head in architecture.heads if head.class_name == key[1])
            raise _taken(before, head, architecture, key[2])


def _taken(before: type, head: Head, architecture: Architecture, backend: str) -> ArgumentError:
    return ArgumentError(
        f"another class is registered as {head.class_name!r} of {architecture.model_type!r} in the backend {backend!r}",
        found=f"{before.__module__}.{before.__qualname__}",
        hint="replace it with exist_ok=True",
    )
