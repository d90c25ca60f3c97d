"""Filling a model: read what the plan says, put it in place, finish the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.open import check_files, open_checkpoint
from loadstone.dtypes import nbytes
from loadstone.errors import ChangedFileError, MatchError, logger_of
from loadstone.generate.settings import GENERATION_CONFIG_NAME, GenerationConfig
from loadstone.load.arguments import LoadArguments
from loadstone.load.create import check_room, put_fresh
from loadstone.load.decide import Prepared, report_of
from loadstone.load.proof import Witness
from loadstone.load.report import LoadReport
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.read.engine import Request, Traffic, read_tensors, same_bytes
from loadstone.read.files import Identity, OpenFiles, identity, is_mappable
from loadstone.read.progress import byte_bar

logger = logger_of(__name__)


def fill(prepared: Prepared, given: LoadArguments) -> tuple[Any, LoadReport]:
    """Load a model that has no memory yet, and finish it.

    Raises:
        ChangedFileError: If the checkpoint changed since its first file was read.
        SourceError: If a file cannot be fetched.
    """
    with prepared.watched.unchanged(given.variant):
        return _filled(prepared, given)


def _filled(prepared: Prepared, given: LoadArguments) -> tuple[Any, LoadReport]:
    backend, model, placement = prepared.target.backend, prepared.model, prepared.placement
    witness = Witness(backend, placement, prepared.plan.assignments)
    plan, traffic = read_parameters(prepared, given, witness)
    check_room(plan.assignments.values(), placement)
    put_fresh(
        prepared.target,
        prepared.config,
        model,
        plan.in_state("new"),
        seed=given.seed,
        rngs=given.rngs,
        placement=placement,
        witness=witness,
    )
    for assignment in plan.in_state("tied"):
        backend.tie(model, assignment.name, assignment.to)
    computed = backend.compute(model, placement)
    backend.finish(model, training=False)
    witness.verify(model, plan.assignments)
    model.generation_config = _generation_config(prepared)
    report = report_of(dataclasses.replace(prepared, plan=plan))
    return model, dataclasses.replace(
        report, computed=computed, bytes_read=traffic.read, bytes_mapped=traffic.mapped
    )


def read_parameters(prepared: Prepared, given: LoadArguments, witness: Witness) -> tuple[LoadPlan, Traffic]:
    """Put every stored tensor that the plan uses where it belongs; `witness` sees each.

    Returns:
        The plan, its undecided ties settled, and the bytes moved.

    Raises:
        ChangedFileError: If a file changed since its header was read.
        SourceError: If a file cannot be fetched.
    """
    backend = prepared.target.backend
    paths = prepared.snapshot.fetch(prepared.index.files)
    traffic = Traffic()
    with OpenFiles(paths, _settled(prepared, given, paths)) as files:
        plan = _settle_ties(prepared, files, traffic)
        requests = _requests(dataclasses.replace(prepared, plan=plan), given, paths)
        tensors = read_tensors(files, requests, alignment=backend.capabilities.alignment, traffic=traffic)
        total = sum(nbytes(assignment.dtype, assignment.shape) for assignment in plan.reads())
        # Closed, so that whatever ends the load ends the threads that read; the error holds this frame.
        with closing(tensors), byte_bar(total=total, what="Loading") as advance:  # of what arrives
            for tensor in tensors:
                witness.see(tensor)
                backend.put(prepared.model, tensor.name, tensor, prepared.placement.device_of(tensor.name))
                advance(tensor.nbytes)
        files.check_unchanged()
    return plan, traffic


def _settled(prepared: Prepared, given: LoadArguments, paths: Mapping[str, Path]) -> Mapping[str, Identity]:
    """Return the identities of the files; what was planned from far away is checked again where it now lies."""
    known = prepared.watched.identities
    if all(name in known for name in prepared.index.files):
        return {name: known[name] for name in prepared.index.files}
    identities = {name: identity(path) for name, path in paths.items()}
    fetched = open_checkpoint(prepared.snapshot, variant=given.variant, use_safetensors=given.use_safetensors)
    if fetched != prepared.index:
        raise ChangedFileError(
            "the fetched files are not those whose headers were read",
            where=prepared.snapshot.location,
            hint="load again with force_download=True",
        )
    check_files(prepared.snapshot, paths.values(), variant=given.variant)
    return identities


def _requests(prepared: Prepared, given: LoadArguments, paths: Mapping[str, Path]) -> Iterator[Request]:
    may_map = {
        name: given.read == "map" or (given.read == "auto" and is_mappable(path))
        for name, path in paths.items()
    }
    aliases = prepared.target.backend.capabilities.aliases
    shared, taken = set(prepared.index.aliases.values()), prepared.index.overlapping()
    for assignment in prepared.plan.reads():
        recipe = assignment.recipe
        assert recipe is not None
        names = {info.name for info in recipe.sources}
        # Two parameters that are not tied must not share memory, even where one tensor is stored for both.
        mappable = aliases and may_map[recipe.sources[0].file] and taken.isdisjoint(names)
        # Other devices copy: from a mapping, that would end the process if the file became shorter meanwhile.
        mappable = mappable and prepared.placement.of(assignment.name).is_host
        taken |= names & shared
        yield Request(name=assignment.name, recipe=recipe, shape=assignment.shape, mappable=mappable)


def _settle_ties(prepared: Prepared, files: OpenFiles, traffic: Traffic) -> LoadPlan:
    """Tie parameters that are stored twice with equal bytes; keep the others apart, with a warning."""
    if not prepared.plan.compare:
        return prepared.plan
    assignments = dict(prepared.plan.assignments)
    for name, to in prepared.plan.compare:
        one, other = (_stored_whole(assignments[tied]) for tied in (name, to))
        if same_bytes(files, one, other, traffic=traffic):
            shape = assignments[name].shape
            assignments[name] = Assignment(name=name, state="tied", shape=shape, to=to)
        elif not prepared.plan.may_differ:
            raise MatchError(
                "the model has two parameters tied that the checkpoint stores with different values",
                where=prepared.snapshot.location,
                problems=[f"{one.file}: {one.name}", f"{other.file}: {other.name}"],
                hint="load the checkpoint with from_pretrained, which keeps them apart",
            )
        else:
            logger.warning(
                "%s: the configuration ties %s and %s, the checkpoint stores them with different values: kept apart",
                prepared.snapshot.location,
                name,
                to,
            )
    return dataclasses.replace(prepared.plan, assignments=assignments)


def _stored_whole(assignment: Assignment) -> TensorInfo:
    """Return the stored tensor of a parameter that is compared with another; it is one, and taken as it is."""
    assert assignment.recipe is not None
    [info] = assignment.recipe.sources
    return info


def _generation_config(prepared: Prepared) -> GenerationConfig:
    if not prepared.snapshot.has(GENERATION_CONFIG_NAME):
        return GenerationConfig.from_model_config(prepared.config)
    text = prepared.snapshot.read_text(GENERATION_CONFIG_NAME)
    return GenerationConfig.from_json(text, where=f"{prepared.snapshot.location}/{GENERATION_CONFIG_NAME}")
