"""What core asks of a model, whichever framework it is of: one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

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
