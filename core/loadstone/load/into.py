"""Loading into a model that exists: its parameters keep their dtype, their device and whatever no tensor is for."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

from loadstone.backend import Backend, Model, Parameter, Place, Placement, get_backend
from loadstone.config import Config
from loadstone.errors import memory_told
from loadstone.load.arguments import LoadArguments, parse_arguments
from loadstone.load.decide import Prepared, indexed
from loadstone.load.install import install
from loadstone.load.report import refuse_on_disk
from loadstone.load.supply import FromFiles
from loadstone.load.target import Target
from loadstone.load.watch import Watched, watch
from loadstone.planning.dtype import DTypePolicy
from loadstone.planning.match import match
from loadstone.planning.place import with_values
from loadstone.planning.records import LoadPlan
from loadstone.source import Name, resolve


@memory_told("to load the checkpoint")
def load_into(
    model: Model,
    name_or_path: Name,
    *,
    strict: bool,
    use_safetensors: bool | None = None,
    weights_format: str | None = None,
) -> tuple[list[str], list[str]]:
    """Load a checkpoint into a model that exists; its parameters keep their dtype and device.

    Args:
        model: A model of any backend.
        name_or_path: The checkpoint; it needs no config.json.
        strict: Every parameter must have a tensor and every tensor a parameter.
        use_safetensors: As in `from_pretrained`.
        weights_format: As in `from_pretrained`.

    Returns:
        Parameters that have no tensor and kept their values, and stored tensors that no parameter takes.

    Raises:
        MatchError: If something does not fit, or the model ties two parameters that are stored with different values.
        CheckpointError: If the files are damaged.
        ChangedFileError: If a file changes while it is read.
        PlacementError: If the model lies where nothing has values.
        ArgumentError: If parameters of it stay on disk.
    """
    refuse_on_disk(model, "takes no other values")
    given, _ = parse_arguments({"use_safetensors": use_safetensors, "weights_format": weights_format})
    watched = watch(resolve(name_or_path))
    with watched.unchanged(None):
        prepared = _prepared_into(model, watched, given, strict=strict)
        before = prepared.target.backend.parameters(model)
        done = install(
            model,
            prepared.plan,
            FromFiles(prepared, given),
            target=prepared.target,
            config=prepared.config,
            placement=prepared.placement,
            before=before,
        )
    missing = [name for name in before if name not in done.plan.assignments]
    return missing, [stored.name for stored in done.plan.stored_in_state("unused")]


def _prepared_into(model: Model, watched: Watched, given: LoadArguments, *, strict: bool) -> Prepared:
    """Decide which tensors a model that exists takes from a checkpoint."""
    backend = get_backend(model.backend_name)
    architecture, head = model.architecture_and_head()
    index = indexed(watched.snapshot, given, architecture)
    policy = DTypePolicy(build="float32", keeps="model", float32=(), origin="model")
    parameters = backend.parameters(model)
    plan = match(
        parameters,
        index,
        # What is there is neither drawn anew nor counted anew.
        architecture=dataclasses.replace(architecture, counters=()) if strict else architecture,
        head=dataclasses.replace(head, new=()) if strict else head,
        config=_without_classes(model.config),
        policy=policy,
        where=watched.snapshot.location,
        strict=strict,
        partial=not strict,
    )
    # Where the configuration ties two parameters and this model holds two, each gets its own tensor.
    compare = _held_as_one(parameters, plan)
    return Prepared(
        watched=watched,
        index=index,
        config=model.config,
        target=Target(backend=backend, architecture=architecture, head=head, model_class=type(model)),
        policy=policy,
        model=model,
        plan=dataclasses.replace(plan, compare=compare, may_differ=False),
        placement=_where(backend, model, parameters),
    )


def _where(backend: Backend, model: Model, parameters: Mapping[str, Parameter]) -> Placement:
    """Return where each parameter is; what is on no device comes to the model's."""
    main = with_values(backend.device(model.device))
    names = dict.fromkeys(one.device for one in parameters.values())
    places = {name: Place(device=main if name is None else backend.device(name)) for name in names}
    modules = {one.name: places[one.device] for one in parameters.values()}
    return Placement(modules=modules, main=main) if len(set(places.values())) > 1 else Placement.on(main)


def _without_classes(config: Config) -> Config:
    """Return a model's configuration for the checkpoint of another: it does not say from which class that was saved."""
    config = copy.deepcopy(config)
    config.architectures = None
    return config


def _held_as_one(parameters: Mapping[str, Parameter], plan: LoadPlan) -> tuple[tuple[str, str], ...]:
    """Return the pairs that the model holds as one parameter, by whomever they were tied, and that are stored twice."""
    first: dict[int, str] = {}
    pairs = []
    for assignment in plan.reads():
        identity = parameters[assignment.name].identity
        if identity is not None and (other := first.setdefault(identity, assignment.name)) != assignment.name:
            owner_last = (other, assignment.name) in plan.compare
            pairs.append((other, assignment.name) if owner_last else (assignment.name, other))
    return tuple(pairs)
