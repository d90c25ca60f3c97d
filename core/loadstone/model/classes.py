"""Binds a module's model classes to their architectures, and makes those that have no code of their own."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from loadstone.architectures.registry import built_in
from loadstone.backend.model import bind, described, is_bound
from loadstone.plugins import claims_of

if TYPE_CHECKING:
    from loadstone.architectures import Architecture, Head


def add_classes(
    module: MutableMapping[str, Any],
    architectures: Iterable[Architecture],
    heads: Mapping[str, type] = types.MappingProxyType({}),
    prefix: str = "",
) -> None:
    """Say of each model class in a family's module what it is, and add those that are described and not defined there.

    The first architecture's classes are made from `heads`, those of the others from the first's: `MistralForCausalLM` is
    a `LlamaForCausalLM`. A head that there is nothing to make from is left out: the backend has none yet.

    The module also gets `add_architecture`, which does the same for one more: for a plugin's that names this family as its own.

    Args:
        module: What the module holds so far, its `globals()`.
        architectures: Those of the family.
        heads: What `AutoModelFor` is followed by, "" for the base model, -> the class to make the model class from.
        prefix: What the backend's class names begin with.

    Raises:
        ArchitectureError: If a class in the module is another architecture's, or another head's.

    Example:
        ```python
        add_classes(globals(), ARCHITECTURES, {"CausalLM": ForCausalLM}, prefix="TF")
        ```
    """
    parents: dict[str, type] = {}

    def add_architecture(architecture: Architecture) -> None:
        for head in architecture.heads:
            name = prefix + head.class_name
            parent = parents.get(head.task, heads.get(head.task))
            if name not in module and parent is not None:
                module[name] = _derived(name, parent, module["__name__"], _told(architecture, head, parent))
            if name in module:
                bind(module[name], architecture, head)
                parents.setdefault(head.task, module[name])

    for architecture in architectures:
        add_architecture(architecture)
    module["add_architecture"] = add_architecture


def _derived(name: str, parent: type, module: str, told: str) -> type:
    # As a class statement in the module would: pickle and Keras find a class by its module and name.
    body = {"__module__": module, "__qualname__": name, "__doc__": told}
    return types.new_class(name, (parent,), exec_body=lambda namespace: namespace.update(body))


def _told(architecture: Architecture, head: Head, parent: type) -> str:
    """Return a class's docstring: its parent's, told of this architecture ("Mistral with a head that ...")."""
    stem = architecture.heads[0].class_name.removesuffix("Model")
    subject, has, rest = str(parent.__doc__).partition(" with")
    return f"{stem}{has}{rest}" if has else f"{stem}: {subject}"


def class_for_heads(base: type, architecture: Architecture) -> type:
    """Return the class from which heads of one's own over a base model derive, `BertPreTrainedModel`; made when first asked for.

    It knows the architecture's configurations, and where the base model sits in a model with a head (`self.bert`). As in
    transformers, every model class of the architecture is one to `issubclass`, and its models to `isinstance`.

    Args:
        base: The base model's class in a backend.
        architecture: What it is of.
    """
    name = f"{base.__name__.removesuffix('Model')}PreTrainedModel"
    home = vars(sys.modules[base.__module__])
    if name not in home:
        prefixes = [prefix for prefix in architecture.base_prefixes if prefix]
        body = {
            "__module__": base.__module__,
            "__qualname__": name,
            "__doc__": f"From which heads of one's own over {base.__name__} derive.",
            "config_class": architecture.config,
            "base_model_prefix": prefixes[0] if prefixes else "model",
            _MODEL_TYPE: architecture.model_type,
        }
        # The base class of a backend: the first above the family's own that nothing describes.
        parent = next(one for one in base.__mro__ if one.__name__ == "PreTrainedModel")
        kind = type(f"{name}Type", (_ForHeads, type(parent)), {})
        home[name] = types.new_class(name, (parent,), {"metaclass": kind}, lambda found: found.update(body))
    found: type = home[name]
    return found


class _ForHeads(type):
    """Lets the classes of an architecture, which derive from a family's blocks, count as subclasses of its class for heads."""

    def __subclasscheck__(cls, other: type) -> bool:
        if super().__subclasscheck__(other):
            return True
        model_type = vars(cls).get(_MODEL_TYPE)  # what derives from a class for heads has none itself
        # The backend's class is looked for by hand: an abstract base class would ask all its subclasses, this one too.
        return model_type is not None and cls.__bases__[0] in other.__mro__ and _is_of(other, model_type)

    def __instancecheck__(cls, model: object) -> bool:
        return super().__instancecheck__(model) or issubclass(type(model), cls)


_MODEL_TYPE = "_model_type_of_heads"


def _is_of(cls: type, model_type: str) -> bool:
    """Return whether a class is an architecture's, or somebody's own that derives from one of its classes."""
    bound = (described(one)[0].model_type for one in cls.__mro__ if is_bound(one))
    known = next(
        (one for one in bound if one == model_type or one in built_in() or one in claims_of("architecture")),
        None,
    )
    return known == model_type
