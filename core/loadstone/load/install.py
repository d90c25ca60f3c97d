"""Filling a model, whatever its tensors come from: read and put, draw and put, tie, compute, finish, look."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from loadstone.backend import Backend, Device, Parameter, Placement
from loadstone.backend.adoption import its_fault
from loadstone.backend.seeds import choose_seed
from loadstone.config import Config
from loadstone.dtypes import nbytes
from loadstone.errors import PlacementError, human_bytes, memory_told, out_of_memory
from loadstone.load.fresh import draw
from loadstone.load.proof import Witness
from loadstone.load.target import Target
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.planning.spread import block_finder
from loadstone.read.on_disk import OnDisk
from loadstone.read.tensor import HostTensor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Randomness:
    """From what fresh parameters are drawn: a seed, a framework's source of numbers, or the framework's own generator."""

    seed: int | None = None
    rngs: object = None


ANY = Randomness()


class Supply:
    """Where the tensors come from that are not drawn. This one has none.

    Attributes:
        on_disk: What stays in its files, once it is opened; None: nothing.
    """

    on_disk: OnDisk | None = None

    @contextlib.contextmanager
    def opened(self, plan: LoadPlan) -> Iterator[tuple[LoadPlan, Iterable[HostTensor]]]:
        """Give the plan, with nothing left open in it, and the tensors that it reads, each ready to be put."""
        yield plan, ()

    def keeps(self, tensor: HostTensor) -> bool:
        """Return whether the memory of a tensor is somebody's who keeps it, so that nothing of it need be read now."""
        return tensor.mapped


NOTHING = Supply()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What was done.

    Attributes:
        plan: The plan that was carried out.
        computed: State that is in no checkpoint and was computed.
    """

    plan: LoadPlan
    computed: tuple[str, ...] = ()


def install(
    model: Any,
    plan: LoadPlan,
    supply: Supply,
    *,
    target: Target,
    config: Config,
    placement: Placement,
    random: Randomness = ANY,
    training: bool = False,
    before: Mapping[str, Parameter] | None = None,
) -> Installed:
    """Carry a plan out, and hold the model against it. Every way to a model goes through here.

    On a device that holds no values nothing is drawn, finished or looked at.

    Args:
        model: The model to fill.
        plan: What becomes of each parameter.
        supply: Where the tensors come from that the plan does not draw.
        target: The model's class and backend.
        config: Says how fresh parameters are drawn.
        placement: Where each parameter goes.
        random: From what they are drawn.
        training: The mode that the model is left in.
        before: What the model had, where it had values already: then it is neither spread, computed nor finished anew.

    Raises:
        PlacementError: If what is to be drawn was placed on disk.
        OutOfMemoryError: If a device is too small for what is to be drawn, or there is no memory.
        BackendError: If the backend did not do what it was told.
    """
    backend, values = target.backend, not _is_abstract(placement)
    fresh = plan.in_state("new") if values else []
    check_room(fresh, placement)
    witness = Witness(backend, placement, plan.assignments)
    put = functools.partial(_put, model, backend, placement, witness)
    with supply.opened(plan) as (carried_out, tensors):
        put(tensors, supply)
    if values:
        put(_drawn(fresh, target, config, random))
    for one in carried_out.in_state("tied"):
        if not _stands(one, carried_out, before or {}):
            backend.tie(model, one.name, one.to)
    if (placement.is_spread or supply.on_disk is not None) and values and before is None:
        blocks = block_finder(target.architecture.no_split, target.head.prefix)
        if supply.on_disk is not None:
            supply.on_disk.deliver(lambda tensor: put([tensor]))
            supply.on_disk.afterwards(lambda: witness.verify(model, carried_out.assignments, before=before))
        backend.spread(model, placement, blocks=blocks, on_disk=supply.on_disk)
    computed: tuple[str, ...] = ()
    if before is None:
        computed = backend.compute(model, placement)
        if values:
            backend.finish(model, training=training)
    if values:
        witness.verify(model, carried_out.assignments, before=before)
    return Installed(plan=carried_out, computed=computed)


def _put(
    model: Any,
    backend: Backend,
    placement: Placement,
    witness: Witness,
    tensors: Iterable[HostTensor],
    supply: Supply = NOTHING,
) -> None:
    """Put tensors where they belong, each looked at before."""
    for tensor in tensors:
        witness.see(tensor, stays=supply.keeps(tensor))
        backend.put(model, tensor.name, tensor, placement.device_of(tensor.name))


def _is_abstract(placement: Placement) -> bool:
    return any(place.device is not None and place.device.is_abstract for place in placement.places)


def check_room(fresh: Iterable[Assignment], placement: Placement) -> None:
    """Make sure that each device could hold the parameters that are to be drawn, were it empty.

    Raises:
        PlacementError: If they were to stay on disk, where no file holds them.
        OutOfMemoryError: If a device is smaller.
    """
    asked: dict[Device, int] = {}
    if away := [one.name for one in fresh if placement.of(one.name).device is None]:
        raise PlacementError(
            "parameters that no file holds cannot stay on disk",
            problems=[f"{name}: newly drawn" for name in away],
            hint="name a device for them in device_map=, or more room for it in max_memory=",
        )
    for one in fresh:
        device = placement.device_of(one.name)
        asked[device] = asked.get(device, 0) + nbytes(one.dtype, one.shape)
    for device, needed in asked.items():
        if device.total and needed > device.total:
            raise out_of_memory(
                f"on {device.name} to draw the parameters that no checkpoint holds",
                asked=needed,
                found=f"{human_bytes(device.total)} in all",
            )


def _drawn(
    fresh: Sequence[Assignment], target: Target, config: Config, random: Randomness
) -> Iterator[HostTensor]:
    """Draw parameters; where there are none, no generator moves on but one that the caller passed."""
    if not fresh and random.rngs is None:
        return
    seed = choose_seed(target.backend, random.seed, random.rngs)
    own: Mapping[str, HostTensor] = {}
    if target.fresh is not None:
        with its_fault(target.model_class):
            own = target.fresh(config, {one.name: one.dtype for one in fresh}, seed)
    for one in fresh:
        base_name = target.head.base_name(one.name)
        with memory_told(f"to draw {one.name}", asked=nbytes("float32", one.shape)):
            tensor = own.get(one.name) or draw(
                one, base_name=base_name, architecture=target.architecture, config=config, seed=seed
            )
        yield tensor


def _stands(tied: Assignment, plan: LoadPlan, before: Mapping[str, Parameter]) -> bool:
    """Return whether nothing is to be done for a tie: the model has it, or neither half is assigned."""
    if tied.to not in plan.assignments:
        return True
    one, other = before.get(tied.name), before.get(tied.to)
    return (
        one is not None and other is not None and one.identity is not None and one.identity == other.identity
    )
