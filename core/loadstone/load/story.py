"""Loading, told in the order in which data flows: arguments, plan, bytes, model, report."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

from loadstone.errors import ArgumentError, logger_of, memory_told
from loadstone.generate.settings import GENERATION_CONFIG_NAME, GenerationConfig
from loadstone.keywords import told
from loadstone.load.arguments import LoadArguments, parse_arguments
from loadstone.load.collector import paused_collector
from loadstone.load.custom_code import LoadsItself
from loadstone.load.decide import Prepared, prepare, report_of
from loadstone.load.file_named import with_file_named
from loadstone.load.from_arrays import FromArrays
from loadstone.load.install import Randomness, install
from loadstone.load.report import LoadReport
from loadstone.load.supply import FromFiles
from loadstone.planning.fold import fold
from loadstone.planning.held import bandwidths
from loadstone.planning.place import check_runs
from loadstone.planning.records import COUNTS_ANEW
from loadstone.source import Name

logger = logger_of(__name__)


@told(LoadArguments)
@memory_told("to load the checkpoint")
def from_pretrained(
    pretrained_model_name_or_path: Name | None,
    *,
    task: str = "",
    model_class: type | None = None,
    backend: str | None = None,
    **arguments: Any,
) -> Any:
    """Load a checkpoint.

    Args:
        pretrained_model_name_or_path: A folder, a repository on the Hub ("org/name"), an address ("scheme://...", of which a
            plugin brings the scheme), or a `loadstone.source.Snapshot`; None where `state_dict` and `config` say it all.
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
        PlacementError: If a device is not there, budgets or a device map do not fit the model, or would spread it.
        ChangedFileError: If a file changes while it is read, or the checkpoint is saved anew while it is loaded.
        BackendError: If the framework is missing.
        OutOfMemoryError: If there is less memory than the model needs.
    """
    started = time.perf_counter()
    given, rest = parse_arguments(arguments)
    name, given = with_file_named(pretrained_model_name_or_path, given)
    with paused_collector():
        try:
            prepared = prepare(name, given, rest, task, model_class, backend, hands_over=True)
        except LoadsItself as own:
            load = own.model_class.from_pretrained  # type: ignore[attr-defined]
            return load(pretrained_model_name_or_path, **{**arguments, **own.pinned})
        check_runs(prepared.placement, prepared.target.backend)
        _check_arrives(prepared, given)
        model, report = fill(prepared, given)
    model.load_report = dataclasses.replace(report, seconds=time.perf_counter() - started)
    _warn(model.load_report)
    return (model, model.load_report.loading_info()) if given.output_loading_info else model


@told(LoadArguments)
@memory_told("to plan the load")
def plan(
    pretrained_model_name_or_path: Name | None,
    *,
    task: str | None = None,
    model_class: type | str | None = None,
    backend: str | None = None,
    bandwidth: Mapping[int | str, int | str] | int | str | None = None,
    **arguments: Any,
) -> LoadReport:
    """Tell what `from_pretrained` would do, from headers alone; no tensor is read or fetched.

    Args:
        pretrained_model_name_or_path: As in `from_pretrained`; of a repository only headers are fetched.
        task: As in `from_pretrained`.
        model_class: A class or its name; without it and `task`, the class that the configuration names.
        backend: As in `from_pretrained`.
        bandwidth: Bytes a second, or text such as "25GB", at which parameters come to the device that computes; or place ->
            one of these: {"cpu": "25GB", "disk": "3GB"}. The report then says how many tokens a second that allows at most.
        **arguments: As in `from_pretrained`, which also tells the errors.

    Example:
        ```python
        import loadstone

        print(loadstone.plan("org/name"))
        ```
    """
    given, rest = parse_arguments(arguments)
    name, given = with_file_named(pretrained_model_name_or_path, given)
    with paused_collector():
        report = report_of(prepare(name, given, rest, task, model_class, backend))
    if bandwidth is not None:
        report = dataclasses.replace(report, bandwidth=bandwidths(bandwidth, report.places))
    return report


def fill(prepared: Prepared, given: LoadArguments) -> tuple[Any, LoadReport]:
    """Load a model that has no memory yet, and finish it.

    Raises:
        ChangedFileError: If the checkpoint changed since its first file was read.
        SourceError: If a file cannot be fetched.
    """
    supply = FromFiles(prepared, given) if given.state_dict is None else FromArrays(prepared, given)
    model = prepared.model
    with prepared.watched.unchanged(given.variant):
        done = install(
            model,
            prepared.plan,
            supply,
            target=prepared.target,
            config=prepared.config,
            placement=prepared.placement,
            random=Randomness(seed=given.seed, rngs=given.rngs),
        )
        model.generation_config = _generation_config(prepared)
    report = report_of(dataclasses.replace(prepared, plan=done.plan))
    read, mapped = supply.traffic.read, supply.traffic.mapped
    report = dataclasses.replace(report, computed=done.computed, bytes_read=read, bytes_mapped=mapped)
    if supply.on_disk is not None and supply.on_disk.arriving is not None:
        supply.on_disk.afterwards(functools.partial(_all_there, model, time.perf_counter()))
        report = dataclasses.replace(report, on_its_way=supply.on_disk)
    return model, report


def _check_arrives(prepared: Prepared, given: LoadArguments) -> None:
    """Make sure that a model can run while it is read, where that is asked for.

    Raises:
        ArgumentError: If its backend has no such models.
    """
    backend = prepared.target.backend
    if not given.wait and not backend.capabilities.arrives:
        raise ArgumentError(
            f"the backend {backend.name!r} runs no model that is still being read",
            found=f"wait={given.wait!r}",
            hint="leave wait= out",
        )


def _all_there(model: Any, started: float) -> None:
    """Let a model's report say that everything has come."""
    report: LoadReport = model.load_report
    assert report.on_its_way is not None and report.on_its_way.arriving is not None
    read = (report.bytes_read or 0) + report.on_its_way.arriving.traffic.read
    seconds = (report.seconds or 0) + time.perf_counter() - started
    model.load_report = dataclasses.replace(report, on_its_way=None, bytes_read=read, seconds=seconds)


def _generation_config(prepared: Prepared) -> GenerationConfig:
    if not prepared.snapshot.has(GENERATION_CONFIG_NAME):
        return GenerationConfig.from_model_config(prepared.config)
    text = prepared.snapshot.read_text(GENERATION_CONFIG_NAME)
    return GenerationConfig.from_json(text, where=f"{prepared.snapshot.location}/{GENERATION_CONFIG_NAME}")


def _warn(report: LoadReport) -> None:
    for note in report.notes:
        logger.warning("%s: %s", report.location, note)
    drawn = [a.name for a in report.plan.in_state("new") if a.why != COUNTS_ANEW]
    new, unused = fold(drawn), fold(report.names("unused"))
    if new:
        logger.warning("%s: newly drawn, to be trained before use: %s", report.model_class, ", ".join(new))
    if unused:
        logger.warning("%s: stored tensors that no parameter takes: %s", report.location, ", ".join(unused))
