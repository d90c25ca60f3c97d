"""Loading, told in the order in which data flows: arguments, plan, bytes, model, report."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from loadstone.backend import Model, Parameter, Placement, get_backend
from loadstone.checkpoint.open import open_checkpoint
from loadstone.config import Config
from loadstone.errors import logger_of, memory_told
from loadstone.load.arguments import LoadArguments, parse_arguments, told
from loadstone.load.collector import paused_collector
from loadstone.load.custom_code import loads_itself
from loadstone.load.decide import Prepared, prepare, report_of
from loadstone.load.install import fill, read_parameters
from loadstone.load.proof import Witness
from loadstone.load.report import LoadReport
from loadstone.load.target import Target
from loadstone.load.watch import Watched, watch
from loadstone.planning.dtype import DTypePolicy
from loadstone.planning.fold import fold
from loadstone.planning.match import match
from loadstone.planning.place import with_values
from loadstone.planning.records import COUNTS_ANEW, LoadPlan
from loadstone.source import Name, resolve

logger = logger_of(__name__)


@told(LoadArguments)
@memory_told("to load the checkpoint")
def from_pretrained(
    pretrained_model_name_or_path: Name,
    *,
    task: str = "",
    model_class: type | None = None,
    backend: str | None = None,
    **arguments: Any,
) -> Any:
    """Load a checkpoint.

    Args:
        pretrained_model_name_or_path: A folder, a repository on the Hub ("org/name"), an address ("scheme://...", of which a
            plugin brings the scheme), or a `loadstone.source.Snapshot`.
        task: What follows `AutoModelFor`, "" for the base model; the Auto classes pass it.
        model_class: The class to load into, instead of the task's; the model classes pass it.
        backend: "torch", "flax", "tensorflow", ...; without it `LOADSTONE_BACKEND` decides, else the installed
            framework of highest priority.
        **arguments: What `LoadArguments` lists, or any field of the configuration (`num_labels=3`), which then replaces
            the file's.

    Returns:
        The model, in inference mode; `model.load_report` says what became of every tensor.

    Raises:
        SourceError: If the folder, repository, revision or a file cannot be found or fetched.
        ConfigError: If config.json is missing, or says something impossible.
        ArchitectureError: If the architecture, or the backend, has no such class.
        ArgumentError: If an argument is unknown, or the source does not take it.
        PluginError: If the scheme or the format is a plugin's, and that is not there or fails.
        CheckpointError: If the files are damaged, or an adapter lies beside them.
        MatchError: If tensors and parameters do not fit together.
        PlacementError: If no device can hold the model.
        ChangedFileError: If a file changes while it is read, or the checkpoint is saved anew while it is loaded.
        BackendError: If the framework is missing.
        OutOfMemoryError: If there is less memory than the model needs.
    """
    started = time.perf_counter()
    given, rest = parse_arguments(arguments)
    with paused_collector():
        prepared = prepare(pretrained_model_name_or_path, given, rest, task, model_class, backend)
        own = prepared.target.model_class
        if model_class is None and loads_itself(own):
            return own.from_pretrained(pretrained_model_name_or_path, **arguments)  # type: ignore[attr-defined]
        model, report = fill(prepared, given)
    model.load_report = dataclasses.replace(report, seconds=time.perf_counter() - started)
    _warn(model.load_report)
    return (model, model.load_report.loading_info()) if given.output_loading_info else model


@told(LoadArguments)
@memory_told("to plan the load")
def plan(
    pretrained_model_name_or_path: Name,
    *,
    task: str | None = None,
    model_class: type | str | None = None,
    backend: str | None = None,
    **arguments: Any,
) -> LoadReport:
    """Tell what `from_pretrained` would do, from headers alone; no tensor is read or fetched.

    Args:
        pretrained_model_name_or_path: As in `from_pretrained`; of a repository only headers are fetched.
        task: As in `from_pretrained`.
        model_class: A class or its name; without it and `task`, the class that the configuration names.
        backend: As in `from_pretrained`.
        **arguments: As in `from_pretrained`, which also tells the errors.

    Example:
        ```python
        import loadstone

        print(loadstone.plan("org/name"))
        ```
    """
    given, rest = parse_arguments(arguments)
    with paused_collector():
        return report_of(prepare(pretrained_model_name_or_path, given, rest, task, model_class, backend))


@memory_told("to load the checkpoint")
def load_into(
    model: Model,
    folder: Name,
    *,
    strict: bool,
    use_safetensors: bool | None = None,
    weights_format: str | None = None,
) -> tuple[list[str], list[str]]:
    """Load a checkpoint into a model that exists; its parameters keep their dtype and device.

    Args:
        model: A model of any backend.
        folder: The checkpoint; it needs no config.json.
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
    """
    given, _ = parse_arguments({"use_safetensors": use_safetensors, "weights_format": weights_format})
    watched = watch(resolve(folder))
    with watched.unchanged(None):
        prepared = _prepared_into(model, watched, given, strict=strict)
        plan, backend = prepared.plan, prepared.target.backend
        parameters = backend.parameters(model)
        witness = Witness(backend, prepared.placement, plan.assignments)
        carried_out, _ = read_parameters(prepared, given, witness)
    for one in plan.in_state("tied"):
        if one.to in plan.assignments and not _are_one(parameters[one.name], parameters[one.to]):
            backend.tie(model, one.name, one.to)
    witness.verify(model, carried_out.assignments, before=parameters)
    missing = [name for name in parameters if name not in plan.assignments]
    return missing, [stored.name for stored in plan.stored_in_state("unused")]


def _prepared_into(model: Model, watched: Watched, given: LoadArguments, *, strict: bool) -> Prepared:
    """Decide which tensors a model that exists takes from a checkpoint."""
    backend = get_backend(model.backend_name)
    architecture, head = model.architecture_and_head()
    index = open_checkpoint(watched.snapshot, **given.weights())
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
        placement=Placement.on(with_values(backend.device(model.device))),
    )


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


def _are_one(parameter: Parameter, other: Parameter) -> bool:
    return parameter.identity is not None and parameter.identity == other.identity


def _warn(report: LoadReport) -> None:
    for note in report.notes:
        logger.warning("%s: %s", report.location, note)
    drawn = [a.name for a in report.plan.in_state("new") if a.why != COUNTS_ANEW]
    new, unused = fold(drawn), fold(report.names("unused"))
    if new:
        logger.warning("%s: newly drawn, to be trained before use: %s", report.model_class, ", ".join(new))
    if unused:
        logger.warning("%s: stored tensors that no parameter takes: %s", report.location, ", ".join(unused))
