"""Choosing the class to load into: a framework, an architecture and a head."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from loadstone.architectures import Architecture, Head, architecture_of, head_for
from loadstone.backend import Backend, get_backend
from loadstone.backend.adoption import Fresh, is_made, its_fault
from loadstone.backend.model import lacking
from loadstone.backend.own import is_plain
from loadstone.config import Config
from loadstone.errors import ArchitectureError, ArgumentError, BackendError, nearest
from loadstone.planning.dtype import DTypePolicy
from loadstone.plugins import backend_claim
from loadstone.remote.modules import is_own


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which class to load into.

    Attributes:
        backend: The framework.
        architecture: The model type.
        head: The task.
        model_class: The backend's class, or the caller's subclass of it.
        notes: Why it is this one, where that has to be told.
        own: Whether what describes it follows from what it declares: it came with the checkpoint, or is a user's own.
        fresh: Draws its parameters; None: core does.
    """

    backend: Backend
    architecture: Architecture
    head: Head
    model_class: type
    notes: tuple[str, ...] = ()
    own: bool = False
    fresh: Fresh | None = None

    def resolved(self, config: Config, stored: Collection[str]) -> Target:
        """Return the target for the configuration that is loaded and the tensors that are stored.

        Raises:
            ArchitectureError: If the class came with the checkpoint, and fails.
        """
        if not self.own and is_plain(self.model_class):
            return self
        found = self.backend.adopt(self.model_class, config, task=self.head.task, stored=stored)
        return dataclasses.replace(self, architecture=found.architecture, head=found.head, fresh=found.fresh)

    def build(
        self,
        config: Config,
        policy: DTypePolicy,
        *,
        attn_implementation: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a model of this class without memory.

        Raises:
            BackendError: If it is not what core can work with.
        """
        with its_fault(self.model_class) if self.own else contextlib.nullcontext():
            model = self.backend.build(
                self.model_class,
                config,
                dtype=policy.build,
                attn_implementation=attn_implementation,
                options=options,
            )
        if names := lacking(model):
            claim = backend_claim(self.backend.asked)
            raise BackendError(
                f"{self.model_class.__name__} lacks what every model has",
                where=f"{claim.value} of {claim.distribution}",
                expected="all of loadstone.backend.Model",
                problems=names,
                hint="derive the class from loadstone.pretrained.Pretrained, or report it to the author of the plugin",
            )
        if self.backend.asked != self.backend.name:
            model.backend_name = self.backend.asked  # so that saving finds the same one of two
        return model


def choose_target(
    config: Config, task: str | None, model_class: type | str | None, backend: str | None
) -> Target:
    """Return the class to load a configuration into.

    Raises:
        ArchitectureError: If the class is of another model type, or there is none for the task.
    """
    if isinstance(model_class, type):
        own = model_class.backend_name  # type: ignore[attr-defined]
        if backend is not None and backend not in (own, f"{own}@{backend.partition('@')[2]}"):
            raise ArgumentError(
                f"{model_class.__name__} is of the backend {own!r}",
                expected=f"backend={own!r}, or none",
                found=f"backend={backend!r}",
                hint="load it with an Auto class, or with that backend's own",
            )
        chosen = get_backend(backend or own)
        architecture, head = model_class.architecture_and_head()  # type: ignore[attr-defined]
        if architecture.model_type != config.model_type:
            raise ArchitectureError(
                f"{model_class.__name__} cannot hold a checkpoint of model type {config.model_type!r}",
                expected=repr(architecture.model_type),
                hint="load it with an Auto class",
            )
        if "@" in chosen.asked and not issubclass(model_class, chosen.model_class(architecture, head)):
            raise ArgumentError(
                f"{model_class.__name__} is not the class of that backend",
                expected=f"{chosen.model_class(architecture, head).__module__}",
                found=model_class.__module__,
                hint="load it with an Auto class",
            )
        return Target(
            backend=chosen,
            architecture=architecture,
            head=head,
            model_class=model_class,
            own=is_own(model_class) or is_made(architecture),
        )
    chosen = get_backend(backend)
    architecture = architecture_of(config)
    notes: tuple[str, ...] = ()
    if task is not None:
        head = head_for(architecture, task)
    elif model_class is not None:
        head = _named_head(architecture, model_class)
    else:
        head, notes = _saved_head(architecture, config)
    return Target(
        backend=chosen,
        architecture=architecture,
        head=head,
        model_class=chosen.model_class(architecture, head),
        notes=notes,
        own=is_made(architecture),
    )


def _saved_head(architecture: Architecture, config: Config) -> tuple[Head, tuple[str, ...]]:
    """Return the head of the first class that the configuration names, else the base model and why it is that."""
    names = config.architectures or []
    for name in names:
        for head in architecture.heads:
            if head.class_name == name:
                return head, ()
    base = architecture.heads[0]
    why = f"{', '.join(names)} is no class of {architecture.model_type!r} here" if names else "there are none"
    return base, (f"this is the base model, {base.class_name}: of config.json's architectures, {why}",)


def _named_head(architecture: Architecture, class_name: str) -> Head:
    """Return the head of a class name."""
    for head in architecture.heads:
        if head.class_name == class_name:
            return head
    raise ArchitectureError(
        f"{architecture.model_type!r} has no class {class_name}",
        expected=f"one of: {', '.join(head.class_name for head in architecture.heads)}",
        hint=nearest(class_name, (head.class_name for head in architecture.heads)) or "name one of these",
    )
