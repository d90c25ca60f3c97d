"""Making an architecture of a class that comes with a checkpoint: its parameters are what it declares."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from loadstone.architectures import Architecture, Head, Tie, generalise, made_for
from loadstone.backend.model import bind, called, described, is_bound
from loadstone.backend.records import Parameter
from loadstone.errors import ArchitectureError, LoadstoneError
from loadstone.remote.modules import beside, is_own

if TYPE_CHECKING:
    from loadstone.config import Config
    from loadstone.read.tensor import HostTensor

Fresh = Callable[["Config", Mapping[str, str], int], Mapping[str, "HostTensor"]]
"""Draws parameters as their class does: configuration, name -> dtype, and a seed -> the values."""


class Builder(Protocol):
    """What is asked of a backend here."""

    name: ClassVar[str]

    def build(self, model_class: type, config: Config, *, dtype: str) -> Any:
        """Return a model without memory."""

    def parameters(self, model: Any) -> dict[str, Parameter]:
        """Return what a model has."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A class that comes with a checkpoint, as the engine loads it.

    Attributes:
        model_class: The class.
        architecture: What describes it, made from what it declares.
        head: The same.
        fresh: Draws what a checkpoint lacks; None: core draws it as for every model.
    """

    model_class: type
    architecture: Architecture
    head: Head
    fresh: Fresh | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a class says of itself and of its checkpoints.

    Attributes:
        prefix: Where its base model sits; "" for the base model itself.
        prefixes: Where else the base model may sit in a checkpoint.
        parameters: What a model of it has.
        ties: Parameter -> the one that it is where `tie_word_embeddings` is true.
        may_lack: Patterns, as `re.search` takes them, of parameters that a checkpoint may lack.
        not_needed: The same, of stored tensors that nobody needs.
        no_split: Paths of modules to keep whole.
        keep_float32: Names of parameters that stay float32.
        keep_float32_of_float16: The same, where float16 is asked for.
        embedding: Path of the module that looks tokens up; "" for none.
        output: Path of the module that scores the vocabulary; "" for none.
    """

    parameters: Mapping[str, Parameter]
    prefix: str = ""
    prefixes: Sequence[str] = ()
    ties: Mapping[str, str] = dataclasses.field(default_factory=dict)
    may_lack: Sequence[str] = ()
    not_needed: Sequence[str] = ()
    no_split: Sequence[str] = ()
    keep_float32: Sequence[str] = ()
    keep_float32_of_float16: Sequence[str] = ()
    embedding: str = ""
    output: str = ""


def adopted(
    backend: Builder, model_class: type, config: Config, task: str, stored: Collection[str] | None
) -> Adoption:
    """Adopt a class that has nothing of a backend's but the base class; `Backend.adopt` tells the arguments and errors.

    What the class says in the words of transformers (`_tied_weights_keys`, `_keys_to_ignore_on_load_missing` and
    `_unexpected`, `base_model_prefix`, `_keep_in_fp32_modules`) means what it means there.
    """
    for one in (*_beside(model_class, backend), model_class):
        provisional(one, config, task if one is model_class else "")
    architecture, head = described(model_class)
    made_for(type(config), architecture)
    if stored is not None:
        model = built(backend, model_class, config)
        declared = declared_by(model_class, config, backend.parameters(model))
        architecture, head = described_by(model_class, config, task, declared, stored)
        made_for(type(config), architecture)
    return Adoption(model_class=model_class, architecture=architecture, head=head)


def declared_by(model_class: type, config: Config, parameters: Mapping[str, Parameter]) -> Declared:
    """Return what a class says of itself in the words of transformers, as far as it needs no framework to be read."""
    prefix = vars_of(model_class, "base_model_prefix") or ""
    has_base = any(name.startswith(f"{prefix}.") for name in parameters)
    ties = vars_of(model_class, "_tied_weights_keys")
    return Declared(
        parameters=parameters,
        prefix=prefix if has_base else "",
        prefixes=(prefix,) if prefix and not has_base else (),
        ties=ties if isinstance(ties, Mapping) else {},
        may_lack=tuple(vars_of(model_class, "_keys_to_ignore_on_load_missing") or ()),
        not_needed=tuple(vars_of(model_class, "_keys_to_ignore_on_load_unexpected") or ()),
        keep_float32=below(vars_of(model_class, "_keep_in_fp32_modules_strict"), parameters),
        keep_float32_of_float16=below(vars_of(model_class, "_keep_in_fp32_modules"), parameters),
    )


def below(modules: Collection[str] | None, parameters: Iterable[str]) -> list[str]:
    """Return the parameters that lie in modules of these names, as transformers names them: a segment of the path.

    Example:
        >>> below(["norm"], ["layers.0.norm.weight", "normal.weight"])
        ['layers.0.norm.weight']
    """
    return [name for name in parameters if not {*(modules or ())}.isdisjoint(name.split("."))]


def vars_of(cls: type, name: str) -> Any:
    """Return what a class says under a name, if it is a plain value; None else."""
    found = next((vars(one)[name] for one in cls.__mro__ if name in vars(one)), None)
    return found if isinstance(found, str | Mapping | Collection) else None


def built(backend: Builder, model_class: type, config: Config) -> Any:
    """Build a model of a class that comes with a checkpoint, without memory.

    Raises:
        ArchitectureError: If the class fails.
    """
    with its_fault(model_class):
        return backend.build(model_class, copy.deepcopy(config), dtype="float32")


@contextlib.contextmanager
def its_fault(model_class: type) -> Iterator[None]:
    """Tell what the code of a class raises as that code's.

    Raises:
        ArchitectureError: If the body raised anything but an error of ours, or a lack of memory, and the class came with a
            checkpoint.
    """
    try:
        yield
    except (LoadstoneError, MemoryError):
        raise
    except Exception as error:
        if not is_own(model_class):
            raise  # its author is the caller
        raise ArchitectureError(
            f"the checkpoint's own class {model_class.__name__} fails when it is made",
            where=model_class.__module__,
            found=f"{type(error).__name__}: {error}",
            hint="the traceback above tells where; it may be written for another version of what it stands on",
        ) from error


def not_loadable(backend: Builder, model_class: type) -> ArchitectureError:
    """Make the error for a class that stands on nothing that a backend can load."""
    bases = ", ".join(f"{one.__module__}.{one.__qualname__}" for one in model_class.__bases__)
    return ArchitectureError(
        f"the checkpoint's own class {model_class.__name__} is no model that the backend {backend.name!r} can load",
        where=model_class.__module__,
        expected="a class on that backend's PreTrainedModel (or, in PyTorch, on transformers')",
        found=f"a class on {bases}",
        hint="load it with the backend that it is written for: backend=",
    )


def is_made(architecture: Architecture) -> bool:
    """Return whether an architecture was made of what a class declares, so that its classes read the configuration itself."""
    return getattr(architecture.spec, "args", ()) == (_itself,)


def blank(config_class: type[Config]) -> Architecture:
    """Return an architecture for a configuration class of one's own, before any class of it is known."""
    return Architecture(
        model_type=config_class.model_type,
        family="",
        config=config_class,
        spec=_itself,
        heads=(),
        embedding="",
        layers=(),
    )


def _beside(model_class: type, backend: Builder) -> Iterator[type]:
    """Yield the model classes that came with the same code: the class may be made of them."""
    for module in beside(model_class.__module__).values():
        for found in vars(module).values():
            own = isinstance(found, type) and found.__module__ == module.__name__
            if own and getattr(found, "backend_name", None) == backend.name:
                yield found


def described_by(
    model_class: type, config: Config | type[Config], task: str, declared: Declared, stored: Iterable[str]
) -> tuple[Architecture, Head]:
    """Return an architecture and a head for a class and one configuration, and bind the class to them.

    Args:
        model_class: The class.
        config: The configuration that the parameters follow from, or its class.
        task: What follows `AutoModelFor`.
        declared: What it says of itself.
        stored: Names of the tensors that a checkpoint has, of which `not_needed` picks some.
    """
    prefix = declared.prefix
    head = Head(
        task=task,
        class_name=called(model_class),
        prefix=prefix,
        new=_groups(declared) if prefix else (),
        ties=ties_of(declared),
        output=declared.output,
        options=options_of(model_class),
    )

    def base(name: str) -> str:
        return name.removeprefix(f"{prefix}.") if prefix else name

    names = list(declared.parameters)
    architecture = Architecture(
        model_type=config.model_type,
        family="",
        config=config if isinstance(config, type) else type(config),
        spec=_itself,
        heads=_heads(head, declared),
        embedding=base(declared.embedding),
        ignored=tuple(base(name) for name in stored if _any(declared.not_needed, name)),
        no_split=tuple(dict.fromkeys(generalise(base(path)) for path in declared.no_split)),
        keep_float32=tuple(map(base, declared.keep_float32)),
        keep_float32_of_float16=tuple(map(base, declared.keep_float32_of_float16)),
        counters=tuple(base(n) for n in names if n.rpartition(".")[2] == "num_batches_tracked"),
        may_lack=tuple(base(name) for name in names if _any(declared.may_lack, name)),
        layers=(),
    )
    bind(model_class, architecture, head)
    return architecture, head


def provisional(model_class: type, config: Config | type[Config], task: str = "") -> Architecture:
    """Bind a class to a description without names, so that a model of it can be built to find them; return its architecture."""
    if not is_bound(model_class):
        described_by(model_class, config, task, Declared(parameters={}), ())
    architecture, head = described(model_class)
    if task and not head.task and is_made(architecture):  # only now is said what it is for
        told = dataclasses.replace(head, task=task)
        heads = tuple(told if one is head else one for one in architecture.heads)
        bind(model_class, dataclasses.replace(architecture, heads=heads), told)
    return described(model_class)[0]


def options_of(model_class: type) -> tuple[str, ...]:
    """Return the keyword arguments that a class takes beside the configuration."""
    taken = inspect.signature(model_class.__init__).parameters.values()  # type: ignore[misc]
    return tuple(one.name for one in taken if one.default is not one.empty)


def _heads(head: Head, declared: Declared) -> tuple[Head, ...]:
    """Return the class, and where else a checkpoint may have its base model: a head says it."""
    bare = dataclasses.replace(
        head, prefix="", new=(), ties=(), output="", class_name=f"{head.class_name}'s base model"
    )
    if head.prefix:
        return bare, head
    return head, *(dataclasses.replace(bare, prefix=one) for one in declared.prefixes)


def _itself(config: Config) -> Config:
    return config


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _groups(declared: Declared) -> tuple[tuple[str, ...], ...]:
    """Return what lies beside the base model, by module: each such module is in a checkpoint as a whole or not at all."""
    groups: dict[str, list[str]] = {}
    for name in declared.parameters:
        if not name.startswith(f"{declared.prefix}."):
            groups.setdefault(name.partition(".")[0], []).append(name)
    return tuple(map(tuple, groups.values()))


def ties_of(declared: Declared) -> tuple[Tie, ...]:
    """Return the class's own ties, and those of parameters that it made one by itself."""
    found = [Tie(name=name, to=to) for name, to in declared.ties.items() if name in declared.parameters]
    first: dict[int, str] = {}
    for name, parameter in declared.parameters.items():
        if name not in declared.ties and parameter.identity is not None:
            to = first.setdefault(parameter.identity, name)
            if to != name:
                found.append(Tie(name=name, to=to, when=""))
    return tuple(found)
