"""Finding an architecture by model type, or by the name of one of its classes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import weakref
from collections.abc import Iterator, Mapping

from loadstone import _names, plugins
from loadstone.architectures.records import Architecture, Head
from loadstone.architectures.typos import meant
from loadstone.config import Config
from loadstone.errors import ArchitectureError, ConfigError, LoadstoneError

registered: dict[str, Architecture] = {}
"""Model type -> architecture, of those that were made known at run time; `loadstone.register` writes it."""


class _Families(Mapping[str, Architecture]):
    """Model type -> architecture; a family's file is imported when one of its model types is asked for."""

    def __init__(self) -> None:
        self._found: dict[str, Architecture | None] = dict.fromkeys(_names.FAMILIES)

    def __getitem__(self, model_type: str) -> Architecture:
        found: Architecture | None = self._found[model_type]
        if found is None:
            module = importlib.import_module(f"{__package__}.{_names.FAMILIES[model_type]}")
            found = next(one for one in module.ARCHITECTURES if one.model_type == model_type)
            self._found[model_type] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, model_type: object) -> bool:
        return model_type in self._found  # without importing what is only asked about


@functools.cache
def built_in() -> Mapping[str, Architecture]:
    """Return model type -> architecture for the families in this package, as the table of names lists them."""
    return _Families()


def architecture_for(model_type: str) -> Architecture:
    """Return the architecture of a model type: one of ours, one that was registered, or a plugin's.

    Args:
        model_type: "bert", ..., or "bert@distribution" to choose between two claims.

    Raises:
        ConfigError: If there is none, with the nearest names.
        PluginError: If a plugin claims the model type and is broken, or two do, or one claims a built-in's.
    """
    wanted, _, owner = model_type.partition("@")
    rivals = plugins.claims_of("architecture").get(wanted, [])
    if wanted in built_in() and owner in ("", plugins.FIRST_PARTY):
        if rivals and not owner:
            raise plugins.conflict(
                f"a plugin claims the architecture {model_type!r}, which loadstone brings itself",
                rivals,
                ours=True,
            )
        return built_in()[wanted]
    if not owner and (own := registered.get(wanted)) is not None:
        return own
    if rivals:
        return _offered(model_type)
    known = model_types()
    raise ConfigError(
        f"unknown model type {model_type!r}",
        expected=f"one of: {', '.join(known)}",
        hint=meant(model_type, known)
        or "load it with transformers, or install a plugin that adds the model type; if it is your own, import the module that"
        " calls loadstone.register",
    )


def _offered(model_type: str) -> Architecture:
    """Return the architecture that a plugin brings. Raises as `architecture_for` does."""
    record, claim = plugins.architecture_record(model_type), plugins.architecture_claim(model_type)
    with plugins.blamed(claim, f"offers {record.architecture!r}, which cannot be imported"):
        found = plugins.load_attribute(record.architecture)
    if not isinstance(found, Architecture):
        raise plugins.wrong_offer(
            claim, record.architecture, expected="a loadstone.architectures.Architecture", found=found
        )
    if found.model_type != record.model_type:
        raise plugins.wrong_offer(
            claim,
            record.architecture,
            expected=f"the model type {record.model_type!r}",
            found=found.model_type,
        )
    return found


def model_types() -> tuple[str, ...]:
    """Return every model type that is known: ours, what was registered, and the plugins', in name order."""
    return tuple(sorted({*built_in(), *registered, *plugins.claims_of("architecture")}))


def architectures() -> Iterator[Architecture]:
    """Yield every architecture: ours, what was registered, then those of working plugins, each imported when its turn comes."""
    yield from built_in().values()
    yield from unlisted()


def family(name: str) -> tuple[Architecture, ...]:
    """Return the architectures of ours whose classes lie in one module of each backend, those of its own file first."""
    found = [model_type for model_type, held in _names.MODELS.items() if held == name]
    found.sort(key=lambda model_type: _names.FAMILIES[model_type] != name)
    return tuple(built_in()[model_type] for model_type in found)


def unlisted() -> Iterator[Architecture]:
    """Yield the architectures of which the table of names says nothing: what was registered, and those of working plugins."""
    yield from tuple(registered.values())
    for model_type in plugins.claims_of("architecture"):
        try:
            yield architecture_for(model_type)
        except LoadstoneError:  # A broken plugin harms only those who ask for its own model type.
            continue


def passed_over() -> Iterator[tuple[LoadstoneError, list[Architecture]]]:
    """Yield why `architectures` leaves a model type out, and those of its claimants that can be had by `@distribution`."""
    for model_type, rivals in plugins.claims_of("architecture").items():
        try:
            architecture_for(model_type)
        except LoadstoneError as error:
            found = []
            for claim in rivals:
                with contextlib.suppress(LoadstoneError):
                    found.append(_offered(f"{model_type}@{claim.owner}"))
            yield error, found


_made: weakref.WeakKeyDictionary[type[Config], Architecture] = weakref.WeakKeyDictionary()


def made_for(config_class: type[Config], architecture: Architecture) -> None:
    """Note the architecture that was made on the spot for a configuration class which came with a checkpoint."""
    _made[config_class] = architecture


def architecture_of(config: Config) -> Architecture:
    """Return the architecture that a configuration belongs to: of two claims on its model type, the one of its class.

    Raises:
        ConfigError: If there is none.
        PluginError: If it is not decided which of two it is, or the plugin is broken.
    """
    model_type = config.model_type
    if (own := registered.get(model_type)) is not None and own.config is type(config):
        return own
    if (made := _made.get(type(config))) is not None:
        return made
    rivals = plugins.claims_of("architecture").get(model_type, [])
    if model_type in built_in() and isinstance(config, built_in()[model_type].config):
        return built_in()[model_type]
    if len(rivals) > 1 or model_type in built_in():
        for claim in rivals:
            with contextlib.suppress(LoadstoneError):
                found = _offered(f"{model_type}@{claim.owner}")
                if type(config) is found.config:
                    return found
    return architecture_for(model_type)


def find_head(class_name: str) -> tuple[Architecture, Head] | None:
    """Return the architecture and head of an unprefixed class name such as "BertForMaskedLM", or None.

    A class of ours imports its own family alone; plugins are imported for a name that we do not have.
    """
    listed = _names.HEADS.get(class_name)
    for architecture in [built_in()[listed[0]]] if listed else unlisted():
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
