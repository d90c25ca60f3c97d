"""Making models without a checkpoint."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from loadstone.backend import Parameter, Placement
from loadstone.config import Config
from loadstone.errors import ArgumentError, memory_told, nearest
from loadstone.keywords import told
from loadstone.load.arguments import MakeArguments
from loadstone.load.custom_code import imported_code_of, own_target
from loadstone.load.install import NOTHING, Randomness, install
from loadstone.load.target import Target, choose_target
from loadstone.planning.dtype import DTypePolicy, dtype_policy
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.remote.foreign import as_config


@told(MakeArguments)
@memory_told("to make a model")
def from_config(
    config: Config,
    *,
    task: str = "",
    model_class: type | None = None,
    backend: str | None = None,
    **options: Any,
) -> Any:
    """Return a model with fresh weights, in training mode, on the framework's default device.

    Where that device holds no values (PyTorch's "meta", accelerate's `init_empty_weights`), nothing is drawn and nothing
    allocated.

    Args:
        config: It is copied.
        task: As in `from_pretrained`.
        model_class: As in `from_pretrained`.
        backend: As in `from_pretrained`.
        **options: What `MakeArguments` lists, or keyword arguments of the model class (`add_pooling_layer`).

    Raises:
        ArchitectureError: If there is no such class.
        ArgumentError: If an option is unknown, or `seed` and `rngs` are both given.
        PlacementError: If the device that the framework is set to is not there.
        OutOfMemoryError: If there is less memory than the parameters need.
    """
    config = copy.deepcopy(as_config(config) or config)
    own = imported_code_of(config) if model_class is None else None
    if own is None:
        target = choose_target(config, task, model_class, backend).resolved(config, ())
    else:
        target = own_target(own, config, task, None, backend).resolved(config, ())
    known = [field.name for field in dataclasses.fields(MakeArguments)]
    given = MakeArguments(**{name: options.pop(name) for name in known if name in options})
    unknown = [name for name in options if name not in target.head.options]
    if unknown:
        hint = nearest(unknown[0], [*target.head.options, *known, "backend"])
        raise ArgumentError(f"from_config() knows no argument {unknown[0]!r}", hint=hint)
    policy = dtype_policy(given.dtype, config=config, index=None, architecture=target.architecture)
    model = target.build(config, policy, attn_implementation=given.attn_implementation, options=options)
    plan = all_new(target, config, policy, target.backend.parameters(model))
    install(
        model,
        plan,
        NOTHING,
        target=target,
        config=config,
        placement=Placement.on(target.backend.device(None)),
        random=Randomness(seed=given.seed, rngs=given.rngs),
        training=True,
    )
    return model


def all_new(
    target: Target, config: Config, policy: DTypePolicy, parameters: Mapping[str, Parameter]
) -> LoadPlan:
    """Return the plan of a model without a checkpoint: what the configuration does not tie is drawn."""
    ties = target.head.ties_of(config)
    assignments = {}
    for name, parameter in parameters.items():
        shape = parameter.shape
        if name in ties:
            assignments[name] = Assignment(name=name, state="tied", shape=shape, to=ties[name])
        else:
            dtype = policy.dtype_of(target.head.base_name(name), parameter.dtype, parameter.dtype)
            assignments[name] = Assignment(
                name=name, state="new", dtype=dtype, shape=shape, why="no checkpoint"
            )
    return LoadPlan(assignments=assignments, stored={})
