"""Making models without a checkpoint, and drawing the parameters that a checkpoint lacks."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadstone.backend import Device, Placement
from loadstone.backend.adoption import its_fault
from loadstone.backend.seeds import choose_seed
from loadstone.config import Config
from loadstone.dtypes import nbytes
from loadstone.errors import ArgumentError, human_bytes, memory_told, nearest, out_of_memory
from loadstone.load.arguments import MakeArguments, told
from loadstone.load.custom_code import imported_code_of, own_target
from loadstone.load.fresh import draw
from loadstone.load.proof import Witness
from loadstone.load.target import Target, choose_target
from loadstone.planning.dtype import DTypePolicy, dtype_policy
from loadstone.planning.records import Assignment
from loadstone.remote.foreign import as_config

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor


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
        target = choose_target(config, task, model_class, backend).settled(config, ())
    else:
        target = own_target(own, config, task, None, backend).settled(config, ())
    known = [field.name for field in dataclasses.fields(MakeArguments)]
    given = MakeArguments(**{name: options.pop(name) for name in known if name in options})
    unknown = [name for name in options if name not in target.head.options]
    if unknown:
        hint = nearest(unknown[0], [*target.head.options, *known, "backend"])
        raise ArgumentError(f"from_config() knows no argument {unknown[0]!r}", hint=hint)
    policy = dtype_policy(given.dtype, config=config, index=None, architecture=target.architecture)
    model = target.build(config, policy, attn_implementation=given.attn_implementation, options=options)
    device = target.backend.device(None)
    placement = Placement.on(device)
    fresh, tied = _all_fresh(target, config, policy, model)
    assignments = {a.name: a for a in (*fresh, *tied)}
    witness = Witness(target.backend, placement, assignments)
    if not device.is_abstract:
        check_room(fresh, placement)
        put_fresh(
            target,
            config,
            model,
            fresh,
            seed=given.seed,
            rngs=given.rngs,
            placement=placement,
            witness=witness,
        )
    for assignment in tied:
        target.backend.tie(model, assignment.name, assignment.to)
    target.backend.compute(model, placement)
    if not device.is_abstract:
        target.backend.finish(model, training=True)
        witness.verify(model, assignments)
    return model


def _all_fresh(
    target: Target, config: Config, policy: DTypePolicy, model: Any
) -> tuple[list[Assignment], list[Assignment]]:
    """Return what becomes of each parameter of a model without a checkpoint: those to draw, and those that are tied."""
    parameters = target.backend.parameters(model)
    ties = target.head.ties_of(config)
    fresh = []
    for name, parameter in parameters.items():
        if name not in ties:
            dtype = policy.target(target.head.base_name(name), parameter.dtype, parameter.dtype)
            fresh.append(
                Assignment(name=name, state="new", dtype=dtype, shape=parameter.shape, why="no checkpoint")
            )
    tied = [
        Assignment(name=name, state="tied", shape=parameters[name].shape, to=to) for name, to in ties.items()
    ]
    return fresh, tied


def put_fresh(
    target: Target,
    config: Config,
    model: Any,
    assignments: Sequence[Assignment],
    *,
    seed: int | None,
    rngs: object,
    placement: Placement,
    witness: Witness,
) -> None:
    """Draw parameters afresh and put them into the model; where there are none, no generator moves on."""
    if not assignments and rngs is None:
        return
    number = choose_seed(target.backend, seed, rngs)
    drawn: Mapping[str, HostTensor] = {}
    if target.fresh is not None:
        with its_fault(target.model_class):
            drawn = target.fresh(config, {one.name: one.dtype for one in assignments}, number)
    for assignment in assignments:
        with memory_told(f"to draw {assignment.name}", asked=nbytes("float32", assignment.shape)):
            tensor = drawn.get(assignment.name) or draw(
                assignment,
                base_name=target.head.base_name(assignment.name),
                architecture=target.architecture,
                config=config,
                seed=number,
            )
        witness.see(tensor)
        target.backend.put(model, assignment.name, tensor, placement.device_of(assignment.name))


def check_room(assignments: Iterable[Assignment], placement: Placement) -> None:
    """Make sure that each device could hold the parameters that are to be drawn, were it empty.

    Raises:
        OutOfMemoryError: If one is smaller.
    """
    asked: dict[Device, int] = {}
    for one in assignments:
        if one.state == "new":
            device = placement.device_of(one.name)
            asked[device] = asked.get(device, 0) + nbytes(one.dtype, one.shape)
    for device, needed in asked.items():
        if device.total and needed > device.total:
            raise out_of_memory(
                f"on {device.name} to draw the parameters that no checkpoint holds",
                asked=needed,
                found=f"{human_bytes(device.total)} in all",
            )
