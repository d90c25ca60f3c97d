"""What a model holds beside what its class has: a foreign layer, a lost one, a shape that the configuration denies."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loadstone.backend import Backend, Parameter
from loadstone.dtypes import DTYPES
from loadstone.errors import ArgumentError, MatchError
from loadstone.load.proof import root
from loadstone.load.target import Target
from loadstone.planning.dtype import DTypePolicy

if TYPE_CHECKING:
    from loadstone.backend import Model


def built_like(
    model: Model,
    parameters: Mapping[str, Parameter],
    target: Target,
    policy: DTypePolicy,
    attn_implementation: str | None = None,
) -> Any:
    """Build a model without memory that has the parameters of `model`.

    Nothing says which of its class's options (`add_pooling_layer=False`) it was built with, but its parameters do.

    Args:
        model: The model.
        parameters: What it has.
        target: The class to build.
        policy: The dtypes.
        attn_implementation: The caller's choice.

    Raises:
        MatchError: If no options give it the same names and shapes; `.problems` names what differs.
    """
    problems: list[str] = []
    for options in ({}, *({name: False} for name in target.head.options)):
        config = copy.deepcopy(model.config)
        made = target.build(config, policy, attn_implementation=attn_implementation, options=options)
        found = _differences(parameters, target.backend.parameters(made))
        if not found:
            return made
        if not problems or len(found) < len(problems):
            problems = found
    raise MatchError(
        f"this {type(model).__name__} has other parameters than {target.model_class.__name__} has",
        problems=problems,
        hint="undo what was added to the model first: merge adapters (PEFT: merge_and_unload), unwrap compiled models",
    )


def unloadable(model: Model, backend: Backend, held: Mapping[str, Parameter]) -> ArgumentError | None:
    """Return the error for a model that could be saved and not loaded again; None for one that could.

    Args:
        model: A model of any backend.
        backend: Its backend.
        held: Its parameters.
    """
    name = type(model).__name__
    if joined := _tied_by_hand(model, held):
        return ArgumentError(
            f"parameters of this {name} are one, and a checkpoint of it would not say so",
            problems=[_how_joined(model, *pair) for pair in joined],
            hint="give each an array of its own, or pass the values of all as state_dict=",
        )
    try:
        like = built_like(model, held, _own_class(model, backend), _POLICY)
    except MatchError as error:
        return ArgumentError(
            f"this {name} holds other parameters than its class and configuration have, and would not load",
            problems=error.problems,
            hint="save added layers (LoRA) with the library that made them, or merge them first (PEFT: merge_and_unload); "
            "or pass what the class has as state_dict=",
        )
    kinds = [
        f"{declared.name}: expected {declared.dtype}, found {held[declared.name].dtype}"
        for declared in backend.parameters(like).values()
        if DTYPES[declared.dtype].kind != DTYPES[held[declared.name].dtype].kind
    ]
    if kinds:
        return ArgumentError(
            f"this {name} holds numbers of a kind that its class has not, and would not load",
            problems=kinds,
            hint="pass the values that the class has as state_dict=",
        )
    return None


def class_parameters(model: Model, backend: Backend, held: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return what a model's class has, tied as the configuration says, whatever the model itself holds."""
    target = _own_class(model, backend)
    try:
        like = built_like(model, held, target, _POLICY)
    except MatchError:
        like = target.build(copy.deepcopy(model.config), _POLICY)
    parameters, ties = backend.parameters(like), target.head.ties_of(model.config)
    numbers = {name: number for number, name in enumerate(parameters)}
    return {
        name: dataclasses.replace(parameter, identity=numbers[root(ties, name)])
        for name, parameter in parameters.items()
    }


_POLICY = DTypePolicy(build="float32", keeps="", float32=(), origin="model")


def _own_class(model: Model, backend: Backend) -> Target:
    architecture, head = model.architecture_and_head()
    return Target(backend=backend, architecture=architecture, head=head, model_class=type(model))


def _tied_by_hand(model: Model, held: Mapping[str, Parameter]) -> list[tuple[str, str]]:
    """Return the pairs that are one parameter and that no tie of the configuration joins."""
    ties = model.architecture_and_head()[1].ties_of(model.config)
    first: dict[int, str] = {}
    found = []
    for name, parameter in held.items():
        other = name if parameter.identity is None else first.setdefault(parameter.identity, name)
        if root(ties, name) != root(ties, other):
            found.append((name, other))
    return found


def _how_joined(model: Model, name: str, other: str) -> str:
    for tie in model.architecture_and_head()[1].ties:
        if {tie.name, tie.to} == {name, other}:
            return f"{name} is {other}, which config.{tie.when} denies: set it to True"
    return f"{name} is {other}"


def _differences(old: Mapping[str, Parameter], new: Mapping[str, Parameter]) -> list[str]:
    found = [f"{name}: only {side} has it" for side, name in _one_sided(old, new)]
    shapes = ((name, old[name].shape, new[name].shape) for name in old if name in new)
    return found + [
        f"{name}: expected {theirs}, found {ours}" for name, ours, theirs in shapes if ours != theirs
    ]


def _one_sided(old: Mapping[str, Parameter], new: Mapping[str, Parameter]) -> Iterator[tuple[str, str]]:
    yield from (("the model", name) for name in old if name not in new)
    yield from (("the class", name) for name in new if name not in old)
