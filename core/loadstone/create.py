"""Making models without a checkpoint, and drawing the parameters that a checkpoint lacks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from loadstone.backend import Device
from loadstone.config import Config
from loadstone.errors import ArgumentError, nearest
from loadstone.planning.dtype import DTypePolicy, dtype_policy
from loadstone.planning.fresh import draw
from loadstone.planning.records import Assignment
from loadstone.proof import Witness
from loadstone.target import Target, choose_target


def from_config(
    config: Config,
    *,
    task: str = "",
    model_class: type | None = None,
    backend: str | None = None,
    dtype: object = None,
    attn_implementation: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Return a model with fresh weights, in training mode, on the backend's default device.

    Args:
        config: It is copied.
        task: As in `from_pretrained`.
        model_class: As in `from_pretrained`.
        backend: As in `from_pretrained`.
        dtype: A dtype; None: the configuration's, else float32.
        attn_implementation: "sdpa" or "eager".
        seed: The same seed gives the same numbers in every backend.
        **options: Keyword arguments of the model class (`add_pooling_layer`).

    Raises:
        ArchitectureError: If there is no such class.
        ArgumentError: If an option is unknown.
    """
    config = copy.deepcopy(config)
    target = choose_target(config, task, model_class, backend)
    unknown = [name for name in options if name not in target.head.options]
    if unknown:
        known = (*target.head.options, "dtype", "attn_implementation", "seed", "backend")
        raise ArgumentError(
            f"from_config() knows no argument {unknown[0]!r}", hint=nearest(unknown[0], known)
        )
    policy = dtype_policy(dtype, config=config, index=None, architecture=target.architecture)
    model = target.build(config, policy, attn_implementation=attn_implementation, options=options)
    device = target.backend.device(None)
    assignments = {a.name: a for a in _all_fresh(target, config, policy, model)}
    witness = Witness(target.backend, device, assignments)
    for assignment in assignments.values():
        if assignment.state == "new":
            put_fresh(target, config, model, assignment, seed=seed, device=device, witness=witness)
        else:
            target.backend.tie(model, assignment.name, assignment.to)
    target.backend.compute(model, device)
    target.backend.finish(model, training=True)
    witness.verify(model, assignments)
    return model


def _all_fresh(target: Target, config: Config, policy: DTypePolicy, model: Any) -> Iterator[Assignment]:
    """Yield the state of each parameter of a model without a checkpoint: new, or tied; ties last."""
    parameters = target.backend.parameters(model)
    ties = target.head.ties_of(config)
    for name, parameter in parameters.items():
        if name not in ties:
            dtype = policy.target(target.head.base_name(name), parameter.dtype, parameter.dtype)
            yield Assignment(name=name, state="new", dtype=dtype, shape=parameter.shape, why="no checkpoint")
    for name, to in ties.items():
        yield Assignment(name=name, state="tied", shape=parameters[name].shape, to=to)


def put_fresh(
    target: Target,
    config: Config,
    model: Any,
    assignment: Assignment,
    *,
    seed: int,
    device: Device,
    witness: Witness,
) -> None:
    """Draw one parameter afresh and put it into the model; `witness` sees it."""
    base_name = target.head.base_name(assignment.name)
    tensor = draw(assignment, base_name=base_name, architecture=target.architecture, config=config, seed=seed)
    witness.see(tensor)
    target.backend.put(model, assignment.name, tensor, device)
