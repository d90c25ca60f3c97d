"""Loading, told in the order in which data flows: snapshot, config, index, plan, place, read, put, report."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from loadstone.architectures import Architecture, Head, architecture_for, architecture_of, find_head, head_for
from loadstone.arguments import LoadArguments, parse_arguments, split_rest
from loadstone.backend import Backend, Device, get_backend
from loadstone.checkpoint.index import TensorIndex
from loadstone.checkpoint.open import open_checkpoint
from loadstone.config import CONFIG_NAME, Config, parse_config_json
from loadstone.errors import ArchitectureError, ArgumentError, ChangedFileError, ConfigError, nearest
from loadstone.generation import GENERATION_CONFIG_NAME, GenerationConfig
from loadstone.planning.dtype import DTypePolicy, dtype_policy
from loadstone.planning.match import match
from loadstone.planning.place import place
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.report import LoadReport
from loadstone.source import Snapshot, resolve

logger = logging.getLogger(__name__)

Name = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which class to load into.

    Attributes:
        backend: The framework.
        architecture: The model type.
        head: The task.
        model_class: The backend's class, or the caller's subclass of it.
    """

    backend: Backend
    architecture: Architecture
    head: Head
    model_class: type


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A load that is decided and of which nothing has been read."""

    snapshot: Snapshot
    identities: Mapping[str, tuple[int, int, int]]
    index: TensorIndex
    config: Config
    target: Target
    policy: DTypePolicy
    model: Any
    plan: LoadPlan
    device: Device


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
        pretrained_model_name_or_path: A folder, or a repository on the Hub ("org/name").
        task: What follows `AutoModelFor`, "" for the base model; the Auto classes pass it.
        model_class: The class to load into, instead of the task's; the model classes pass it.
        backend: "torch", "flax", "tensorflow", ...; without it `LOADSTONE_BACKEND` decides, else the installed
            framework of highest priority.
        **arguments: Any of the following, or any field of the configuration (`num_labels=3`), which then replaces
            the file's.

            * `config`: a configuration, or where to load one from, in place of the checkpoint's.
            * `dtype` (or `torch_dtype`): "auto" (the default: the configuration's dtype, else the file's), "stored" (each
              tensor as it lies), or a dtype by name or as a framework's object.
            * `revision`, `subfolder`, `cache_dir`, `token`, `force_download`, `local_files_only`: as in huggingface_hub.
            * `variant`: "fp16" loads `model.fp16.safetensors`.
            * `use_safetensors`: True or None; pickles are not read yet.
            * `device_map`: None (the default device), "auto", or a device.
            * `key_mapping`: regular expressions, pattern -> replacement, applied to stored names.
            * `strict`: True: any surplus tensor is an error; False: none is; None: one that only a wrong configuration
              explains is.
            * `read`: "auto", "map" or "copy"; see docs/architecture.md.
            * `ignore_mismatched_sizes`: draw parameters afresh whose stored shape differs.
            * `output_loading_info`: return the model and a dict of missing, unexpected and mismatched keys.
            * `attn_implementation`: "sdpa" or "eager".
            * `seed`: of the generator that draws a new task head.

    Returns:
        The model, in inference mode; `model.load_report` says what became of every tensor.

    Raises:
        SourceError: If the folder, repository, revision or a file cannot be found or fetched.
        ConfigError: If config.json is missing, or says something impossible.
        ArchitectureError: If the architecture, or the backend, has no such class.
        ArgumentError: If an argument is unknown.
        CheckpointError: If the files are damaged.
        MatchError: If tensors and parameters do not fit together.
        PlacementError: If no device can hold the model.
        ChangedFileError: If a file changes while it is read.
        BackendError: If the framework is missing.
    """
    started = time.perf_counter()
    given, rest = parse_arguments(arguments)
    prepared = prepare(pretrained_model_name_or_path, given, rest, task, model_class, backend)
    model, report = fill(prepared, given)
    model.load_report = dataclasses.replace(report, seconds=time.perf_counter() - started)
    _warn(model.load_report)
    return (model, model.load_report.loading_info()) if given.output_loading_info else model


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
    return _report(prepare(pretrained_model_name_or_path, given, rest, task, model_class, backend))


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
    model = _build(target, config, policy, attn_implementation, options)
    device = target.backend.device(None)
    for assignment in _all_fresh(target, config, policy, model):
        if assignment.state == "new":
            _put_fresh(target, config, model, assignment, seed, device)
        else:
            target.backend.tie(model, assignment.name, assignment.to)
    target.backend.compute(model, device)
    target.backend.finish(model, training=True)
    return model


def load_config(pretrained_model_name_or_path: Name, **arguments: Any) -> Config:
    """Load a configuration; `AutoConfig.from_pretrained` tells the arguments and errors."""
    given, rest = parse_arguments(arguments)
    config = read_config(resolve(pretrained_model_name_or_path, **given.source()))
    fields, _ = split_rest(rest, config=config, head=architecture_of(config).heads[0])
    config.update(fields)
    return config


def read_config(snapshot: Snapshot) -> Config:
    """Return the typed configuration of a snapshot.

    Raises:
        ConfigError: If config.json is absent, not JSON, of no known model type, or of wrong types.
    """
    if not snapshot.has(CONFIG_NAME):
        raise ConfigError(
            "there is no config.json",
            where=snapshot.location,
            found=", ".join(sorted(snapshot.files)[:6]) or "an empty folder",
            hint="name the folder or repository that holds config.json, or pass subfolder=",
        )
    where = f"{snapshot.location}/{CONFIG_NAME}"
    values = parse_config_json(snapshot.read_text(CONFIG_NAME), where=where)
    model_type = values.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(
            "config.json does not say what kind of model this is",
            where=where,
            expected='"model_type", e.g. "llama"',
            found=f"keys {', '.join(sorted(values)[:6])}" if model_type is None else repr(model_type),
            hint="add the model_type, or pass config=",
        )
    return architecture_for(model_type).config.from_dict(values, where=where)


def prepare(
    name: Name,
    given: LoadArguments,
    rest: Mapping[str, Any],
    task: str | None,
    model_class: type | str | None,
    backend: str | None,
) -> Prepared:
    """Decide everything about a load: source -> config -> index -> model without memory -> plan -> device."""
    snapshot = resolve(name, **given.source())
    file_config = _config(snapshot, given)
    target = choose_target(file_config, task, model_class, backend)
    fields, options = split_rest(rest, config=file_config, head=target.head)
    config = copy.deepcopy(file_config)
    config.update(fields)

    identities = _identities(snapshot)
    index = open_checkpoint(snapshot, variant=given.variant, use_safetensors=given.use_safetensors)
    policy = dtype_policy(given.dtype, config=config, index=index, architecture=target.architecture)
    model = _build(target, config, policy, given.attn_implementation, options)

    def before_arguments() -> Collection[str]:
        unchanged = _build(target, file_config, policy, None, {})
        return target.backend.parameters(unchanged)

    plan = match(
        target.backend.parameters(model),
        index,
        architecture=target.architecture,
        head=target.head,
        config=config,
        policy=policy,
        where=snapshot.location,
        supported=target.backend.capabilities.dtypes,
        key_mapping=given.key_mapping,
        strict=given.strict,
        ignore_mismatched_sizes=given.ignore_mismatched_sizes,
        before_arguments=before_arguments if fields or options else None,
    )
    device = place(plan, target.backend, given.device_map)
    return Prepared(
        snapshot=snapshot,
        identities=identities,
        index=index,
        config=config,
        target=target,
        policy=policy,
        model=model,
        plan=plan,
        device=device,
    )


def fill(prepared: Prepared, given: LoadArguments) -> tuple[Any, LoadReport]:
    """Read what the plan says into the model, and finish it."""
    from loadstone.progress import progress
    from loadstone.read.engine import Traffic, read_tensors
    from loadstone.read.files import OpenFiles

    backend, model, device = prepared.target.backend, prepared.model, prepared.device
    paths = prepared.snapshot.fetch(prepared.index.files)
    traffic = Traffic()
    with OpenFiles(paths, _settled(prepared, given)) as files:
        requests = list(_requests(prepared, given, paths))
        tensors = read_tensors(files, requests, alignment=backend.capabilities.alignment, traffic=traffic)
        for tensor in progress(tensors, total=sum(r.info.nbytes for r in requests), what="Loading"):
            backend.put(model, tensor.name, tensor, device)
        plan = _settle_ties(prepared)
        files.check_unchanged()
    for assignment in plan.in_state("new"):
        _put_fresh(prepared.target, prepared.config, model, assignment, given.seed, device)
    for assignment in plan.in_state("tied"):
        backend.tie(model, assignment.name, assignment.to)
    computed = backend.compute(model, device)
    backend.finish(model, training=False)
    model.generation_config = _generation_config(prepared)
    report = _report(dataclasses.replace(prepared, plan=plan))
    return model, dataclasses.replace(
        report, computed=computed, bytes_read=traffic.read, bytes_mapped=traffic.mapped
    )


def choose_target(
    config: Config, task: str | None, model_class: type | str | None, backend: str | None
) -> Target:
    """Return the class to load a configuration into.

    Raises:
        ArchitectureError: If the class is of another model type, or there is none for the task.
    """
    if isinstance(model_class, type):
        chosen = get_backend(model_class.backend_name)  # type: ignore[attr-defined]
        architecture, head = model_class.architecture_and_head()  # type: ignore[attr-defined]
        if architecture.model_type != config.model_type:
            raise ArchitectureError(
                f"{model_class.__name__} cannot hold a checkpoint of model type {config.model_type!r}",
                expected=repr(architecture.model_type),
                hint="load it with an Auto class",
            )
        return Target(backend=chosen, architecture=architecture, head=head, model_class=model_class)
    chosen = get_backend(backend)
    architecture = architecture_of(config)
    head = _named_head(architecture, config, model_class) if task is None else head_for(architecture, task)
    return Target(
        backend=chosen,
        architecture=architecture,
        head=head,
        model_class=chosen.model_class(architecture, head),
    )


def _named_head(architecture: Architecture, config: Config, class_name: str | None) -> Head:
    """Return the head of a class name, or else of the first class that the configuration names."""
    names = [class_name] if class_name else [*(config.architectures or []), architecture.heads[0].class_name]
    for name in names:
        found = find_head(name)
        if found is not None and found[0].model_type == architecture.model_type:
            return found[1]
    raise ArchitectureError(
        f"{architecture.model_type!r} has no class {class_name}",
        expected=", ".join(head.class_name for head in architecture.heads),
    )


def _config(snapshot: Snapshot, given: LoadArguments) -> Config:
    if given.config is None:
        return read_config(snapshot)
    if isinstance(given.config, Config):
        return copy.deepcopy(given.config)
    return read_config(resolve(given.config, **given.source()))


def _build(
    target: Target, config: Config, policy: DTypePolicy, attention: str | None, options: Mapping[str, Any]
) -> Any:
    return target.backend.build(
        target.model_class, config, dtype=policy.build, attn_implementation=attention, options=options
    )


def _identities(snapshot: Snapshot) -> dict[str, tuple[int, int, int]]:
    """Return what the local files are before their headers are read, so that a change after that is seen."""
    from loadstone.read.files import identity

    return {
        name: identity(file.path)
        for name, file in snapshot.files.items()
        if file.path is not None and name.endswith(".safetensors")
    }


def _settled(prepared: Prepared, given: LoadArguments) -> Mapping[str, tuple[int, int, int]]:
    """Return the identities of the files; what was planned from far away is checked again where it now lies."""
    from loadstone.read.files import identity

    if all(name in prepared.identities for name in prepared.index.files):
        return {name: prepared.identities[name] for name in prepared.index.files}
    paths = prepared.snapshot.fetch(prepared.index.files)
    identities = {name: identity(path) for name, path in paths.items()}
    fetched = open_checkpoint(prepared.snapshot, variant=given.variant, use_safetensors=given.use_safetensors)
    if fetched != prepared.index:
        raise ChangedFileError(
            "the fetched files are not those whose headers were read",
            where=prepared.snapshot.location,
            hint="load again with force_download=True",
        )
    return identities


def _requests(prepared: Prepared, given: LoadArguments, paths: Mapping[str, Path]) -> Iterator[Any]:
    from loadstone.read.engine import Request
    from loadstone.read.files import is_mappable

    may_map = {
        name: given.read == "map" or (given.read == "auto" and is_mappable(path))
        for name, path in paths.items()
    }
    aliases = prepared.target.backend.capabilities.aliases or not prepared.device.is_host
    taken: set[str] = set()
    for assignment in prepared.plan.reads():
        info = assignment.source
        assert info is not None
        # Two parameters that are not tied must not share memory, even where one tensor is stored for both.
        mappable = may_map[info.file] and aliases and info.name not in taken
        taken.add(info.name)
        yield Request(name=assignment.name, info=info, dtype=assignment.dtype, mappable=mappable)


def _settle_ties(prepared: Prepared) -> LoadPlan:
    """Tie parameters that are stored twice with equal bytes; keep the others apart, with a warning."""
    assignments = dict(prepared.plan.assignments)
    for name, to in prepared.plan.compare:
        if _equal(prepared, name, to):
            shape = assignments[name].shape
            assignments[name] = Assignment(name=name, state="tied", shape=shape, to=to)
        else:
            logger.warning(
                "%s: the configuration ties %s and %s, the checkpoint stores them with different values: kept apart",
                prepared.snapshot.location,
                name,
                to,
            )
    return dataclasses.replace(prepared.plan, assignments=assignments)


def _equal(prepared: Prepared, name: str, to: str) -> bool:
    one, other = (prepared.target.backend.read(prepared.model, n) for n in (name, to))
    step = 16 << 20
    return one.dtype == other.dtype and all(
        bytes(one.data[start : start + step]) == bytes(other.data[start : start + step])
        for start in range(0, one.nbytes, step)
    )


def _all_fresh(target: Target, config: Config, policy: DTypePolicy, model: Any) -> Iterator[Assignment]:
    """Yield the state of each parameter of a model without a checkpoint: new, or tied; ties last."""
    parameters = target.backend.parameters(model)
    ties = {tie.name: tie.to for tie in target.head.ties if not tie.when or getattr(config, tie.when)}
    for name, parameter in parameters.items():
        if name not in ties:
            base = name.removeprefix(f"{target.head.prefix}.")
            dtype = policy.target(base, parameter.dtype, parameter.dtype)
            yield Assignment(name=name, state="new", dtype=dtype, shape=parameter.shape, why="no checkpoint")
    for name, to in ties.items():
        yield Assignment(name=name, state="tied", shape=parameters[name].shape, to=to)


def _put_fresh(
    target: Target, config: Config, model: Any, assignment: Assignment, seed: int, device: Device
) -> None:
    from loadstone.planning.fresh import draw

    base = assignment.name.removeprefix(f"{target.head.prefix}.") if target.head.prefix else assignment.name
    tensor = draw(assignment, base_name=base, architecture=target.architecture, config=config, seed=seed)
    target.backend.put(model, assignment.name, tensor, device)


def _generation_config(prepared: Prepared) -> GenerationConfig:
    if not prepared.snapshot.has(GENERATION_CONFIG_NAME):
        return GenerationConfig.from_model_config(prepared.config)
    text = prepared.snapshot.read_text(GENERATION_CONFIG_NAME)
    return GenerationConfig.from_json(text, where=f"{prepared.snapshot.location}/{GENERATION_CONFIG_NAME}")


def _report(prepared: Prepared) -> LoadReport:
    return LoadReport(
        model_class=prepared.target.model_class.__name__,
        backend=prepared.target.backend.name,
        location=prepared.snapshot.location,
        commit=prepared.snapshot.commit,
        device=prepared.device.name,
        dtype="stored" if prepared.policy.keeps_stored else prepared.policy.build,
        dtype_origin=prepared.policy.origin,
        plan=prepared.plan,
        metadata=prepared.index.metadata,
    )


def _warn(report: LoadReport) -> None:
    from loadstone.planning.fold import fold

    new, unused = fold(report.names("new")), fold(report.names("unused"))
    if new:
        logger.warning("%s: newly drawn, to be trained before use: %s", report.model_class, ", ".join(new))
    if unused:
        logger.warning("%s: stored tensors that no parameter takes: %s", report.location, ", ".join(unused))
