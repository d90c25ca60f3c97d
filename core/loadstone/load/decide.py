"""Deciding a load: from a name to a plan and a device, with nothing read but headers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from loadstone.architectures import Architecture, find_head
from loadstone.backend import Backend, Placement
from loadstone.checkpoint.formats import adapter_beside, adapters
from loadstone.checkpoint.index import TensorIndex
from loadstone.checkpoint.open import find_weights, open_checkpoint
from loadstone.checkpoint.settled import settle
from loadstone.config import Config
from loadstone.errors import ArgumentError, ConfigError
from loadstone.load.arguments import LoadArguments, split_rest
from loadstone.load.arrays import NoFiles, index_of
from loadstone.load.configuration import Asked, read_config
from loadstone.load.custom_code import (
    hand_over,
    imported_code_of,
    naming_code,
    own_code_of,
    own_config_class,
    own_target,
)
from loadstone.load.far import refuse_far
from loadstone.load.labels import names_hold
from loadstone.load.report import LoadReport
from loadstone.load.target import Target, choose_target
from loadstone.load.watch import Watched, steadily, watch
from loadstone.planning.dtype import DTypePolicy, dtype_policy, narrowed
from loadstone.planning.fold import fold
from loadstone.planning.match import left_over, match
from loadstone.planning.parts import in_part, others_than
from loadstone.planning.place import place
from loadstone.planning.records import LoadPlan
from loadstone.planning.sizes import oversized, refuse_oversized
from loadstone.planning.spoken import as_checkpoint
from loadstone.planning.spread import block_finder
from loadstone.remote.foreign import ForeignConfig, as_config
from loadstone.remote.own import OwnCode
from loadstone.source import Name, Snapshot, resolve


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A load that is decided and of which nothing has been read.

    Attributes:
        watched: Where the files are, and what they were before they were read.
        index: What they hold.
        config: With the caller's changes.
        target: The class.
        policy: The dtypes.
        model: The model, its parameters still without memory unless it existed before.
        plan: Which tensor becomes which parameter.
        placement: Where each parameter goes.
        notes: What is to be told of the load beside its plan.
    """

    watched: Watched
    index: TensorIndex
    config: Config
    target: Target
    policy: DTypePolicy
    model: Any
    plan: LoadPlan
    placement: Placement
    notes: tuple[str, ...] = ()

    @property
    def snapshot(self) -> Snapshot:
        """Where the files are."""
        return self.watched.snapshot


def prepare(
    name_or_path: Name | None,
    given: LoadArguments,
    rest: Mapping[str, Any],
    task: str | None,
    model_class: type | str | None,
    backend: str | None,
    *,
    hands_over: bool = False,
) -> Prepared:
    """Decide everything about a load: source -> config -> index -> model without memory -> plan -> device.

    Everything that is decided is of one save: where another one comes meanwhile, it is decided once more.

    Raises:
        ChangedFileError: If the checkpoint is saved again and again meanwhile.
        LoadsItself: With `hands_over`, if it is for the checkpoint's own class to load it.
    """

    def decided() -> Prepared:
        watched = watch(_opened(name_or_path, given))
        with watched.unchanged(given.variant):
            return _decide(watched, given, rest, task, model_class, backend, hands_over)

    return steadily(decided)


def _decide(
    watched: Watched,
    given: LoadArguments,
    rest: Mapping[str, Any],
    task: str | None,
    model_class: type | str | None,
    backend: str | None,
    hands_over: bool,
) -> Prepared:
    snapshot = watched.snapshot
    asked = Asked.by(given, _type_of(model_class), own_config_class(model_class))
    file_config, told = _config(snapshot, given, asked, model_class)
    own = own_code_of(file_config)
    with naming_code(file_config.held("auto_map") if own is None else None):
        if own is not None and not isinstance(model_class, type):
            target = own_target(own, file_config, task, model_class, backend)
            if hands_over:
                hand_over(target.model_class, snapshot.commit)
        else:
            target = choose_target(file_config, task, model_class, backend)
        fields, options = split_rest(rest, config=file_config, head=target.head)
        config = copy.deepcopy(file_config)
        config.update(fields)
        if given.state_dict is None:
            config.name_or_path = str(snapshot.location)

        index = indexed(snapshot, given, target.architecture)
        adapter = adapter_beside(snapshot.files, where=snapshot.location)
        if adapter is not None and not given.ignore_adapter:
            raise adapter
        target = target.resolved(config, index.tensors)
        policy = dtype_policy(given.dtype, config=config, index=index, architecture=target.architecture)
        if policy.origin == "argument":
            config.dtype = policy.build

        refuse_oversized(
            config,
            index,
            architecture=target.architecture,
            ignore_mismatched_sizes=given.ignore_mismatched_sizes,
            where=snapshot.location,
        )

        def built(config: Config) -> Any:
            return target.build(
                config, policy, attn_implementation=given.attn_implementation, options=options
            )

        config, model, labels = _with_labels_chosen(config, target.backend, index, built)
        parameters = target.backend.parameters(model)

        before: Collection[str] = ()
        if (fields or options or given.config is not None) and left_over(
            parameters,
            index,
            architecture=target.architecture,
            head=target.head,
            key_mapping=given.key_mapping,
        ):
            plain = file_config if given.config is None else _config_beside(snapshot, target, asked)
            if plain is not None and not oversized(plain, index, architecture=target.architecture):
                before = target.backend.parameters(target.build(plain, policy))

        plan = match(
            parameters,
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
            before_arguments=before,
        )
    block_of = block_finder(target.architecture.no_split, target.head.prefix)
    left_out = () if given.layers is None else others_than(given.layers, plan.assignments, block_of)
    placement = place(
        plan,
        target.backend,
        given.device_map,
        max_memory=given.max_memory,
        block_of=block_of,
        left_out=left_out,
    )
    plan = in_part(plan, placement)
    refuse_far(snapshot, given, plan, placement)
    return Prepared(
        watched=watched,
        index=index,
        config=config,
        target=target,
        policy=policy,
        model=model,
        plan=plan,
        placement=placement,
        notes=(
            *told,
            *target.notes,
            *labels,
            *index.notes,
            *_notes(snapshot, policy, plan),
            *_of_nobody(config, target, plan),
        ),
    )


def indexed(snapshot: Snapshot, given: LoadArguments, architecture: Architecture) -> TensorIndex:
    """Return what the weights hold, in the names of the architecture's checkpoints."""
    if given.state_dict is not None:
        return index_of(given.state_dict)
    stored = open_checkpoint(snapshot, **given.weights())
    return as_checkpoint(stored, architecture, where=snapshot.location)


def _opened(name_or_path: Name | None, given: LoadArguments) -> Snapshot:
    """Return the files to load from; none where the caller has the arrays.

    Raises:
        ArgumentError: If there is a name and a state dict, or no configuration for a state dict.
    """
    if given.state_dict is None:
        return resolve(name_or_path, **given.source())  # type: ignore[arg-type]  # which tells None as what it is
    if name_or_path is None and given.config is not None:
        return NoFiles()
    said = {"a name": name_or_path, "config=": given.config, "state_dict=": given.state_dict}
    raise ArgumentError(
        "a model is loaded from a checkpoint by its name, or from config= and state_dict= with None for the name",
        found=" and ".join(what for what, value in said.items() if value is not None),
        hint="pass None as the name and config= beside state_dict=, where config= may be the name of a checkpoint",
    )


def _with_labels_chosen(
    config: Config, backend: Backend, index: TensorIndex, built: Callable[[Config], Any]
) -> tuple[Config, Any, tuple[str, ...]]:
    """Build the model, with the number of labels that is stored where the configuration says two.

    Returns:
        The configuration, the model, and what is to be told of it.
    """
    model, named, number = built(config), config.contradicting_labels(), config.num_labels
    if not named:
        return config, model, ()
    other = copy.deepcopy(config)
    other.num_labels = named
    model_of_names = built(other)
    hold = names_hold(backend.parameters(model), backend.parameters(model_of_names), index)
    said = f"config.json says num_labels={number} and names {named} labels in id2label"
    if hold:
        return other, model_of_names, (f"{said}; the stored classifier has {named}, which were taken",)
    told = f"{said}; {number} were taken, and the names left out"
    return config, model, () if hold is None else (told,)


def _type_of(model_class: type | str | None) -> str | None:
    """Return the model type of a class or of its name, where there is one."""
    if isinstance(model_class, type):
        model_type: str = model_class.architecture_and_head()[0].model_type  # type: ignore[attr-defined]
        return model_type
    found = find_head(model_class) if model_class else None
    return found[0].model_type if found else None


def _config(
    snapshot: Snapshot, given: LoadArguments, asked: Asked, model_class: type | str | None
) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration to load with, and what is to be told of it."""
    if given.config is None:
        if not snapshot.has(asked.file):
            find_weights(snapshot, **given.weights())  # where there are none either, its error says more
        return read_config(snapshot, asked)
    config = as_config(given.config)
    if config is None:
        beside = dataclasses.replace(asked, weights={})
        return read_config(settle(resolve(given.config, **given.source())), beside)
    if given.model_type not in (None, config.model_type):
        raise ArgumentError(
            "config and model_type disagree",
            found=f"a {type(given.config).__name__} and model_type={given.model_type!r}",
            hint="leave model_type out",
        )
    config = _as_its_class_has_it(copy.deepcopy(config), model_class)
    if isinstance(config, ForeignConfig):
        own = OwnCode.of(config.to_dict(), snapshot, asked.permission)
        vars(config)["_own_code"] = own if given.state_dict is None else imported_code_of(config)
    return config, ()


def _as_its_class_has_it(config: Config, model_class: type | str | None) -> Config:
    """Return another library's configuration (transformers' own) as the class reads it, where that is of the same model type."""
    if not isinstance(config, ForeignConfig) or not isinstance(model_class, type):
        return config
    architecture = model_class.architecture_and_head()[0]  # type: ignore[attr-defined]
    if issubclass(architecture.config, ForeignConfig) or architecture.model_type != config.model_type:
        return config
    found: Config = architecture.config.from_dict(config.to_dict(), where="config=")
    found.name_or_path = config.name_or_path
    return found


def _config_beside(snapshot: Snapshot, target: Target, asked: Asked) -> Config | None:
    """Return the checkpoint's own configuration where the caller gave another, if it is usable."""
    try:
        config, _ = read_config(snapshot, asked)
    except ConfigError:
        return None
    return config if config.model_type == target.architecture.model_type else None


def _notes(snapshot: Snapshot, policy: DTypePolicy, plan: LoadPlan) -> Iterator[str]:
    """Yield what a load leaves out, or does though nobody asked for it."""
    if left := adapters(snapshot.files):
        yield f"{', '.join(left)}: left out, the model is that of the whole weights alone"
    narrow = narrowed(plan) if policy.origin == "checkpoint" else []
    if narrow:
        yield (
            f"the configuration names no dtype, and the first float tensor is {policy.build}: stored wider, and"
            f' narrowed to it: {", ".join(fold(narrow))}; dtype="stored" keeps each as it lies'
        )


def _of_nobody(config: Config, target: Target, plan: LoadPlan) -> Iterator[str]:
    """Yield what a checkpoint's class may be that nobody knows here, where tensors of it are left over."""
    known = {target.head.class_name, *(head.class_name for head in target.architecture.heads)}
    strangers = [name for name in config.architectures or [] if name not in known]
    if strangers and plan.stored_in_state("unused"):
        yield (
            f"config.json says that this is {', '.join(strangers)}, which nobody registered in this process: tensors are"
            " left over that may be its own; load it with that class, or import what registers it"
        )


def report_of(prepared: Prepared) -> LoadReport:
    """Return the report of a load, as far as it is known before anything is read."""
    return LoadReport(
        model_class=prepared.target.model_class.__name__,
        backend=prepared.target.backend.name,
        location=prepared.snapshot.location,
        commit=prepared.snapshot.commit,
        placement=prepared.placement,
        dtype="stored" if prepared.policy.keeps else prepared.policy.build,
        dtype_origin=prepared.policy.origin,
        plan=prepared.plan,
        metadata=prepared.index.metadata,
        kept_on_host=_kept_on_host(prepared),
        notes=prepared.notes,
    )


def _kept_on_host(prepared: Prepared) -> tuple[str, ...]:
    dtypes = prepared.target.backend.capabilities.host_dtypes
    if not dtypes:
        return ()
    return tuple(a.name for a in prepared.plan.assignments.values() if a.dtype in dtypes)
