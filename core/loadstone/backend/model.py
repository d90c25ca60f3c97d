"""What core asks of a model, whichever framework it is of: one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from loadstone import plugins
from loadstone.errors import ArchitectureError

if TYPE_CHECKING:
    from loadstone.architectures import Architecture, Head
    from loadstone.config import Config


class Model(Protocol):
    """A model as core sees it. `loadstone.pretrained.Pretrained` gives a class all of it but the modules themselves.

    Attributes:
        backend_name: The backend that the class belongs to, as `get_backend` is asked for it.
        config: The model's configuration.
        spec: The same, with every quirk resolved.
        generation_config: A `loadstone.GenerationConfig`: the model's settings for `generate`.
        load_report: A `loadstone.LoadReport`; None for a model that was not loaded.
        device: Where it is, as its framework says it.
        base_model: The model without its task head.
    """

    backend_name: ClassVar[str]
    config: Config
    spec: Any
    generation_config: Any
    load_report: Any

    @property
    def device(self) -> Any:
        """Where the model is, as its framework says it; `Backend.device` takes it."""

    @property
    def base_model(self) -> Any:
        """The model without its task head; the model itself where it has none."""

    @classmethod
    def architecture_and_head(cls) -> tuple[Architecture, Head]:
        """Return what describes the class."""

    def module_at(self, path: str) -> Any:
        """Return the module that checkpoints call `path`; "" is the model itself."""

    def set_module_at(self, path: str, module: Any) -> None:
        """Replace the module that checkpoints call `path`."""

    def set_attn_implementation(self, name: str) -> None:
        """Choose how attention is computed."""

    def check_saves(self, values: Mapping[str, Any] | None = None) -> None:
        """Raise an ArgumentError if the model, or `values` in place of its own, can be in no checkpoint of its class."""

    def check_generates(self) -> None:
        """Raise an ArgumentError if the model has no head that `generate` can continue prompts with."""


MEMBERS = (*Model.__annotations__, *(name for name in vars(Model) if not name.startswith("_")))
"""Names of all that the protocol asks for."""


def lacking(model: object) -> list[str]:
    """Return what the protocol asks for and a model has not; nothing of the model is run."""
    return [name for name in MEMBERS if not hasattr(type(model), name) and name not in vars(model)]


def methods_lacking(cls: type) -> list[str]:
    """Return the methods that the protocol asks for and a class has not."""
    return [name for name in MEMBERS if callable(getattr(Model, name, None)) and not hasattr(cls, name)]


_BOUND = "_architecture_and_head"


def bind(cls: type, architecture: Architecture, head: Head) -> None:
    """Say of a class which architecture and head it is, for it and for what derives from it.

    Args:
        cls: A model class.
        architecture: What it is a class of.
        head: One of the architecture's.

    Raises:
        ArchitectureError: If the class is bound to another model type or head already.
    """
    if (error := bound_to_another(cls, architecture, head)) is not None:
        raise error
    setattr(cls, _BOUND, (architecture, head))


def bound_to_another(cls: type, architecture: Architecture, head: Head) -> ArchitectureError | None:
    """Make the error for a class that is bound to another model type or head; None for one that can be bound to this."""
    before = vars(cls).get(_BOUND)
    if before is None or _is_same(before, (architecture, head)):
        return None
    return ArchitectureError(
        f"{cls.__name__} cannot be {head.class_name!r} of {architecture.model_type!r} too",
        where=f"{cls.__module__}.{cls.__qualname__}",
        expected="a class that nothing is said of yet",
        found=f"it is {before[1].class_name!r} of {before[0].model_type!r}",
        hint=f"derive a class from it: class {head.class_name}({cls.__name__})",
    )


def _is_same(one: tuple[Architecture, Head], other: tuple[Architecture, Head]) -> bool:
    """Return whether two descriptions are of one class: an architecture may be described again, by another plugin."""
    return one[0].model_type == other[0].model_type and one[1].class_name == other[1].class_name


def is_bound(cls: type) -> bool:
    """Return whether `bind` was called for a class itself, and not only for one that it derives from."""
    return _BOUND in vars(cls)


def called(cls: type) -> str:
    """Return the name under which checkpoints know a class: without its backend's prefix, and as it is written where it is wrapped.

    Example:
        >>> called(type("FSDPMine", (), {"backend_name": "torch"}))
        'Mine'
    """
    if is_bound(cls):
        return described(cls)[1].class_name
    prefix = plugins.class_prefix_of(getattr(cls, "backend_name", ""))
    return cls.__name__.removeprefix("FSDP").removeprefix(
        prefix
    )  # PyTorch's fully_shard makes a class FSDPMine


def described(cls: type) -> tuple[Architecture, Head]:
    """Return what a class, or the nearest that it derives from, is bound to; nothing is imported for it.

    Raises:
        ArchitectureError: If it is bound to nothing.
    """
    found: tuple[Architecture, Head] | None = getattr(cls, _BOUND, None)
    if found is None:
        raise ArchitectureError(
            f"no architecture has a class {cls.__name__}",
            where=cls.__module__,
            hint="derive it from a class of the architecture, make it known with loadstone.register, or end its module with"
            " loadstone.model.classes.add_classes(globals(), [the architecture])",
        )
    return found
