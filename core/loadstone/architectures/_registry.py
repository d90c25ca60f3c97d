"""Finding an architecture by model type, or by the name of one of its classes."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator

from loadstone import plugins
from loadstone.architectures._records import Architecture, Head
from loadstone.architectures._typos import meant
from loadstone.config import Config
from loadstone.errors import ArchitectureError, ConfigError, PluginError


@functools.cache
def built_in() -> dict[str, Architecture]:
    """Return model type -> architecture for the families in this package; a new file is found by being there."""
    import loadstone.architectures as package

    found: dict[str, Architecture] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2].startswith("_"):
            continue
        for architecture in importlib.import_module(module.name).ARCHITECTURES:
            found[architecture.model_type] = architecture
    return found


def architecture_for(model_type: str) -> Architecture:
    """Return the architecture of a model type: one of ours, else a plugin's.

    Raises:
        ConfigError: If there is none, with the nearest names.
        PluginError: If a plugin claims the model type and is broken, or two do, or one claims a built-in's.
    """
    rivals = plugins.claims_of("architecture").get(model_type.partition("@")[0], [])
    if model_type in built_in():
        if rivals:
            raise plugins.conflict(
                f"a plugin claims the architecture {model_type!r}, which loadstone brings itself", rivals
            )
        return built_in()[model_type]
    if rivals:
        architecture: Architecture = plugins.architecture(model_type)
        return architecture
    known = model_types()
    raise ConfigError(
        f"unknown model type {model_type!r}",
        expected=f"one of: {', '.join(known)}",
        hint=meant(model_type, known)
        or "load it with transformers, or install a plugin that adds the model type",
    )


def model_types() -> tuple[str, ...]:
    """Return every model type that is known, ours and the plugins', in name order."""
    return tuple(sorted({*built_in(), *plugins.claims_of("architecture")}))


def architectures() -> Iterator[Architecture]:
    """Yield every architecture: ours, then those of working plugins, each imported when its turn comes."""
    yield from built_in().values()
    for model_type in plugins.claims_of("architecture"):
        try:
            yield architecture_for(model_type)
        except PluginError:  # A broken plugin harms only those who ask for its own model type.
            continue


def architecture_of(config: Config) -> Architecture:
    """Return the architecture that a configuration belongs to."""
    return architecture_for(config.model_type)


def find_head(class_name: str) -> tuple[Architecture, Head] | None:
    """Return the architecture and head of an unprefixed class name such as "BertForMaskedLM", or None."""
    for architecture in architectures():
        for head in architecture.heads:
            if head.class_name == class_name:
                return architecture, head
    return None


def head_for(architecture: Architecture, task: str) -> Head:
    """Return the head of an architecture for a task, e.g. "CausalLM"; "" is the base model.

    Raises:
        ArchitectureError: If the architecture has no such head.
    """
    for head in architecture.heads:
        if head.task == task:
            return head
    tasks = [f"AutoModelFor{head.task}" if head.task else "AutoModel" for head in architecture.heads]
    raise ArchitectureError(
        f"{architecture.model_type!r} has no head for {task}",
        expected=f"one of: {', '.join(tasks)}",
        hint="load it with one of these, or load another checkpoint",
    )
