"""Classes of a user's own that derive from ours: what describes one follows from its configuration and from what it declares.

There are three kinds. A class that derives from a model class may have parameters more; a head of one's own stands over the base
model of a known architecture (`BertPreTrainedModel`); and of a model that has nothing of ours but the base class,
`loadstone.backend.adoption` makes an architecture.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from loadstone.architectures import Architecture, Head, architecture_of, made_for, matches, registry
from loadstone.backend.adoption import (
    Adoption,
    Builder,
    built,
    declared_by,
    is_made,
    not_loadable,
    options_of,
    provisional,
    ties_of,
    vars_of,
)
from loadstone.backend.adoption import adopted as _made
from loadstone.backend.model import bind, called, described, is_bound
from loadstone.config import Config
from loadstone.errors import ArchitectureError, LoadstoneError, logger_of, nearest
from loadstone.remote.foreign import ForeignConfig
from loadstone.remote.modules import is_own

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor

logger = logger_of(__name__)

_over: weakref.WeakSet[type] = weakref.WeakSet()
"""Heads of one's own over the base model of a known architecture."""


class Maker(Builder, Protocol):
    """What is asked of a backend here."""

    def model_class(self, architecture: Architecture, head: Head) -> type:
        """Return the class of a head."""


def describe_own(cls: type, config_class: type[Config] | None = None) -> None:
    """Bind a class of one's own to what describes it, where its configuration says so and no registration does.

    Args:
        cls: A model class.
        config_class: The class of its configurations; None: as it says itself (`config_class`).
    """
    if is_bound(cls):
        return
    config_class = config_class or said_config_class(cls)
    if config_class is None:
        return
    inherited, known = _inherited(cls), _known(config_class)
    if inherited is None and known is None:
        architecture = provisional(cls, config_class)
        if registry.registered.get(config_class.model_type) is None:
            made_for(config_class, architecture)
    elif inherited is None:
        assert known is not None
        bind(cls, known, Head(task="", class_name=called(cls), prefix=""))
        _over.add(cls)
    elif known is not None and known is not inherited[0] and issubclass(config_class, inherited[0].config):
        bind(cls, known, dataclasses.replace(inherited[1], class_name=called(cls)))


def said_config_class(cls: type) -> type[Config] | None:
    """Return the class of configurations that a class of one's own names; None where it names none."""
    said = next((vars(one)["config_class"] for one in cls.__mro__ if "config_class" in vars(one)), None)
    return said if isinstance(said, type) and issubclass(said, Config) else None


def _inherited(cls: type) -> tuple[Architecture, Head] | None:
    """Return what describes the nearest ancestor that an architecture has as a class of its own."""
    with contextlib.suppress(ArchitectureError):
        found = described(cls)
        nearest_bound = next(one for one in cls.__mro__ if is_bound(one))
        return None if is_made(found[0]) or nearest_bound in _over else found
    return None


def _known(config_class: type[Config]) -> Architecture | None:
    """Return the architecture of a configuration class, or of the one that it derives from, under its own model type."""
    for one in config_class.__mro__:
        if not issubclass(one, Config) or not one.model_type:
            return None
        with contextlib.suppress(LoadstoneError):
            found = architecture_of(one.__new__(one))
            if is_made(found):
                return None
            if found.config is config_class:
                return found
            if found.config is one:
                derived = dataclasses.replace(found, model_type=config_class.model_type, config=config_class)
                made_for(config_class, derived)
                return derived
    return None


def _of_two_kinds(cls: type, config: ForeignConfig) -> ArchitectureError:
    """Make the error for a model on loadstone's base whose configuration stands on transformers': its defaults are unknown here."""
    return ArchitectureError(
        f"{cls.__name__} stands on loadstone's base class, and its configuration does not",
        where=cls.__module__,
        expected="a configuration on loadstone.Config, or a model on transformers' base class",
        found=f"{config.theirs.__name__}, of {config.theirs.__module__}",
        hint="derive both from loadstone, or both from transformers",
    )


Draws = Callable[[type, Config, Mapping[str, str], int], Mapping[str, "HostTensor"]]
"""A backend's function: class, configuration, name -> dtype and a seed -> the values that the class gives; core draws others."""


def adopted(
    backend: Maker,
    model_class: type,
    config: Config,
    task: str,
    stored: Collection[str] | None,
    draws: Draws | None = None,
) -> Adoption:
    """Adopt a class of somebody's own on a backend's base class; `Backend.adopt` tells the arguments and errors.

    One that its module bound to an architecture of its own is taken as that.
    """
    if getattr(model_class, "backend_name", None) != backend.name:
        raise not_loadable(backend, model_class)
    if isinstance(config, ForeignConfig):
        raise _of_two_kinds(model_class, config)
    describe_own(model_class, type(config))
    own: Collection[str] | None = None
    if is_made(described(model_class)[0]):
        found = _made(backend, model_class, config, task, stored)
    else:
        if is_own(model_class):
            made_for(type(config), described(model_class)[0])
        found, own = _completed(backend, model_class, config, built_already=stored is not None)
    if draws is None or (own == [] and not _says_more(model_class)):
        return found
    return dataclasses.replace(found, fresh=functools.partial(_fresh, draws, model_class, own))


def _fresh(
    draws: Draws,
    model_class: type,
    own: Collection[str] | None,
    config: Config,
    dtypes: Mapping[str, str],
    seed: int,
) -> Mapping[str, HostTensor]:
    wanted = {name: dtype for name, dtype in dtypes.items() if own is None or name in own}
    tell_not_asked(model_class, [name for name in dtypes if name not in wanted])
    return draws(model_class, config, wanted, seed) if wanted else {}


def tell_not_asked(model_class: type, names: Sequence[str]) -> None:
    """Warn that a class's `_init_weights` has no say in parameters that it may have meant."""
    if names and _says_more(model_class):
        logger.warning(
            "%s._init_weights is asked for the class's own parameters alone: %s%s are drawn by the rule for all models",
            model_class.__name__,
            ", ".join(names[:3]),
            " and others" if len(names) > 3 else "",
        )


def _says_more(model_class: type) -> bool:
    """Return whether a class has an `_init_weights` of its own."""
    said = next(
        (vars(one)["_init_weights"] for one in model_class.__mro__ if "_init_weights" in vars(one)), None
    )
    return said is not None and said.__module__.partition(".")[0] != __name__.partition(".")[0]


def last_word(model: Any, names: Iterable[str]) -> None:
    """Let a model's class say, in its `_init_weights`, what the parameters of these names begin with, a module at a time.

    The modules come in the order of the names, so that what is drawn in them follows from the seed.
    """
    for path in dict.fromkeys(name.rpartition(".")[0] for name in names):
        model._init_weights(model.module_at(path))


def _completed(
    backend: Maker, model_class: type, config: Config, *, built_already: bool
) -> tuple[Adoption, list[str]]:
    """Return what describes a class together with the parameters that are its own, and these.

    What a class says under `new`, or else whatever it has more than the class that it derives from, may be absent from a
    checkpoint that another class was saved to, and is then drawn.

    Raises:
        ArchitectureError: If the class fails when it is made, or `new` names no parameter of its own.
    """
    architecture, head = described(model_class)
    own: list[str] = []
    if built_already and model_class in _over:
        architecture, head, own = _over_base(backend, model_class, architecture, head, config)
        bind(model_class, architecture, head)
    elif built_already:
        own = [*_more(backend, model_class, config), *_more_below(backend, architecture, head, config)]
        architecture, head = _with_more(model_class, architecture, head, own, config)
    return Adoption(model_class=model_class, architecture=architecture, head=head), own


def is_plain(model_class: type) -> bool:
    """Return whether a class is one of an architecture's own, of which nothing more is to be found out."""
    return is_bound(model_class) and model_class not in _over and not _is_registered(model_class)


def _over_base(
    backend: Maker, model_class: type, architecture: Architecture, head: Head, config: Config
) -> tuple[Architecture, Head, list[str]]:
    """Return the description of a head of one's own, and the parameters beside its base model."""
    parameters = backend.parameters(built(backend, model_class, config))
    declared = declared_by(model_class, config, parameters)
    prefixes = [one for one in (declared.prefix, *architecture.base_prefixes) if one]
    prefix = next((one for one in prefixes if any(name.startswith(f"{one}.") for name in parameters)), "")
    own = [name for name in parameters if not (prefix and name.startswith(f"{prefix}."))]
    head = dataclasses.replace(
        head,
        prefix=prefix,
        new=_groups(model_class, own) if prefix else (),
        ties=ties_of(declared),
        options=options_of(model_class),
    )
    others = tuple(one for one in architecture.heads if one.class_name != head.class_name)
    return dataclasses.replace(architecture, heads=(*others, head)), head, own


def _with_more(
    model_class: type, architecture: Architecture, head: Head, own: Collection[str], config: Config
) -> tuple[Architecture, Head]:
    """Return the description of a class with parameters more than the one that it derives from."""
    # What the parent's own checkpoint promises to hold stays promised.
    parents = called(model_class) != head.class_name and head.class_name in (config.architectures or [])
    whole = dataclasses.replace(
        head,
        class_name=called(model_class),
        new=(*(() if parents else head.new), *_groups(model_class, own)),
        options=tuple(dict.fromkeys((*head.options, *options_of(model_class)))),
    )
    heads = tuple(whole if one.class_name == head.class_name else one for one in architecture.heads)
    return dataclasses.replace(architecture, heads=heads), whole


def _more(backend: Maker, model_class: type, config: Config) -> list[str]:
    """Return the parameters that a class has more than the class of an architecture from which it derives."""
    ours = next((one for one in model_class.__mro__ if is_bound(one) and not _is_registered(one)), None)
    between = model_class.__mro__[: model_class.__mro__.index(ours)] if ours else ()
    if ours is None or not any("__init__" in vars(one) for one in between):
        return []
    known = backend.parameters(built(backend, ours, config))
    return [name for name in backend.parameters(built(backend, model_class, config)) if name not in known]


def _more_below(backend: Maker, architecture: Architecture, head: Head, config: Config) -> list[str]:
    """Return the same for the registered base model that a model with a head stands on."""
    if not head.prefix or registry.registered.get(architecture.model_type) is None:
        return []
    base = architecture.heads[0]
    return [
        f"{head.prefix}.{name}" for name in _more(backend, backend.model_class(architecture, base), config)
    ]


def _is_registered(cls: type) -> bool:
    """Return whether a class was registered, or described by its own configuration."""
    architecture = described(cls)[0]
    return registry.registered.get(architecture.model_type) is not None or said_config_class(cls) is not None


def _groups(model_class: type, own: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Return what of a class's own parameters a checkpoint has as a whole or not at all.

    Raises:
        ArchitectureError: If the class's `new` names none of them.
    """
    said = vars_of(model_class, "new")
    if said is None:
        modules: dict[str, list[str]] = {}
        for name in own:
            modules.setdefault(name.rpartition(".")[0] or name, []).append(name)
        return tuple(map(tuple, modules.values()))
    entries = [
        (entry,) if isinstance(entry, str) else tuple(entry)
        for entry in ([said] if isinstance(said, str) else said)
    ]
    found = [
        tuple(name for name in own if any(map(functools.partial(_names, name=name), entry)))
        for entry in entries
    ]
    if wrong := [entry for entry, names in zip(entries, found, strict=True) if not names]:
        raise ArchitectureError(
            f"{model_class.__name__}.new names no parameter of its own",
            where=f"{model_class.__module__}.{model_class.__qualname__}",
            expected=", ".join(list(own)[:8]) or "none: it has no parameter of its own",
            found=", ".join(wrong[0]),
            hint=nearest(wrong[0][0], own) or "name parameters or modules, as checkpoints have them",
        )
    return tuple(found)


def _names(said: str, name: str) -> bool:
    """Return whether an entry of `new` means a parameter: it is its name, its module's, or a pattern of one."""
    return matches(said, name) or name.startswith(f"{said}.")
