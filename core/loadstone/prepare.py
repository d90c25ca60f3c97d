"""Deciding a load: from a name to a plan and a device, with nothing read but headers."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import Any

from loadstone.arguments import LoadArguments, split_rest
from loadstone.backend import Device
from loadstone.checkpoint.index import TensorIndex
from loadstone.checkpoint.open import find_weights, open_checkpoint
from loadstone.checkpoint.switch import settle
from loadstone.config import CONFIG_NAME, Config
from loadstone.config_file import read_config
from loadstone.errors import ConfigError
from loadstone.planning.dtype import DTypePolicy, dtype_policy
from loadstone.planning.match import match
from loadstone.planning.place import place, placed
from loadstone.planning.records import LoadPlan
from loadstone.report import LoadReport
from loadstone.source import Snapshot, resolve
from loadstone.target import Target, choose_target

Name = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A load that is decided and of which nothing has been read.

    Attributes:
        snapshot: Where the files are.
        identities: What the local files were before their headers were read.
        index: What they hold.
        config: With the caller's changes.
        target: The class.
        policy: The dtypes.
        model: The model, its parameters still without memory unless it existed before.
        plan: Which tensor becomes which parameter.
        device: Where it goes.
        device_map: Module -> device, as the caller asked for it; None where nobody asked.
    """

    snapshot: Snapshot
    identities: Mapping[str, tuple[int, int, int]]
    index: TensorIndex
    config: Config
    target: Target
    policy: DTypePolicy
    model: Any
    plan: LoadPlan
    device: Device
    device_map: Mapping[str, str] | None = None


def prepare(
    name: Name,
    given: LoadArguments,
    rest: Mapping[str, Any],
    task: str | None,
    model_class: type | str | None,
    backend: str | None,
) -> Prepared:
    """Decide everything about a load: source -> config -> index -> model without memory -> plan -> device."""
    snapshot = settle(resolve(name, **given.source()))
    file_config = _config(snapshot, given)
    target = choose_target(file_config, task, model_class, backend)
    fields, options = split_rest(rest, config=file_config, head=target.head)
    config = copy.deepcopy(file_config)
    config.update(fields)
    config.name_or_path = str(snapshot.location)

    identities = identities_of(snapshot)
    index = open_checkpoint(snapshot, variant=given.variant, use_safetensors=given.use_safetensors)
    policy = dtype_policy(given.dtype, config=config, index=index, architecture=target.architecture)
    if policy.origin == "argument":
        config.dtype = policy.build
    model = target.build(config, policy, attn_implementation=given.attn_implementation, options=options)

    def before_arguments() -> Collection[str]:
        own = file_config if given.config is None else _config_beside(snapshot, target)
        return target.backend.parameters(target.build(own, policy)) if own is not None else ()

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
        before_arguments=before_arguments if fields or options or given.config is not None else None,
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
        device_map=placed(device, given.device_map),
    )


def _config(snapshot: Snapshot, given: LoadArguments) -> Config:
    if given.config is None:
        if not snapshot.has(CONFIG_NAME):
            find_weights(snapshot, variant=given.variant)  # where there are none either, its error says more
        return read_config(snapshot)
    if isinstance(given.config, Config):
        return copy.deepcopy(given.config)
    return read_config(settle(resolve(given.config, **given.source())))


def _config_beside(snapshot: Snapshot, target: Target) -> Config | None:
    """Return the checkpoint's own configuration where the caller gave another, if it is usable."""
    try:
        config = read_config(snapshot)
    except ConfigError:
        return None
    return config if config.model_type == target.architecture.model_type else None


def identities_of(snapshot: Snapshot) -> dict[str, tuple[int, int, int]]:
    """Return what the local files are before their headers are read, so that a change after that is seen."""
    from loadstone.read.files import identity

    return {
        name: identity(file.path)
        for name, file in snapshot.files.items()
        if file.path is not None and name.endswith(".safetensors")
    }


def report_of(prepared: Prepared) -> LoadReport:
    """Return the report of a load, as far as it is known before anything is read."""
    return LoadReport(
        model_class=prepared.target.model_class.__name__,
        backend=prepared.target.backend.name,
        location=prepared.snapshot.location,
        commit=prepared.snapshot.commit,
        device=prepared.device.name,
        device_map=prepared.device_map,
        dtype="stored" if prepared.policy.keeps else prepared.policy.build,
        dtype_origin=prepared.policy.origin,
        plan=prepared.plan,
        metadata=prepared.index.metadata,
        kept_on_host=_kept_on_host(prepared),
    )


def _kept_on_host(prepared: Prepared) -> tuple[str, ...]:
    dtypes = prepared.target.backend.capabilities.host_dtypes
    if not dtypes:
        return ()
    return tuple(a.name for a in prepared.plan.assignments.values() if a.dtype in dtypes)
