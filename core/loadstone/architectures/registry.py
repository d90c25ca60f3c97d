"""Finding an architecture by model type, or by the name of one of its classes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from loadstone import plugins
from loadstone.architectures.records import Architecture, Head
from loadstone.architectures.typos import meant
from loadstone.config import Config
from loadstone.errors import ArchitectureError, ConfigError, LoadstoneError


@functools.cache
def built_in() -> dict[str, Architecture]:
    """Return model type -> architecture for the families in this package; a new file is found by being there."""
    found: dict[str, Architecture] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        # The modules that describe no family (records, specs, ...) hold no such list.
        for architecture in getattr(importlib.import_module(module.name), "ARCHITECTURES", ()):
            found[architecture.model_type] = architecture
    return found


def architecture_for(model_type: str) -> Architecture:
    """Return the architecture of a model type: one of ours, else a plugin's.

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
    if rivals:
        return _offered(model_type)
    known = model_types()
    raise ConfigError(
        f"unknown model type {model_type!r}",
        expected=f"one of: {', '.join(known)}",
        hint=meant(model_type, known)
        or "load it with transformers, or install a plugin that adds the model type",
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
    """Return every model type that is known, ours and the plugins', in name order."""
    return tuple(sorted({*built_in(), *plugins.claims_of("architecture")}))


def architectures() -> Iterator[Architecture]:
    """Yield every architecture: ours, then those of working plugins, each imported when its turn comes."""
    yield from built_in().values()
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


def architecture_of(config: Config) -> Architecture:
    """Return the architecture that a configuration belongs to: of two claims on its model type, the one of its class.

    Raises:
        ConfigError: If there is none.
        PluginError: If it is not decided which of two it is, or the plugin is broken.
    """
    model_type = config.model_type
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


def heads_named(class_name: str) -> Iterator[tuple[Architecture, Head]]:
    """Yield every architecture and head of an unprefixed class name, those of two claimants on a model type too."""
    strangers = (architecture for _, found in passed_over() for architecture in found)
    for architecture in itertools.chain(architectures(), strangers):
        for head in architecture.heads:
            if head.class_name == class_name:
                yield architecture, head


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
