"""The files of a checkpoint as a supply of tensors: fetched where the plan needs them, held against their headers, read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.open import check_files
from loadstone.errors import ChangedFileError, MatchError, logger_of
from loadstone.load.arguments import LoadArguments
from loadstone.load.decide import Prepared, indexed
from loadstone.load.install import Supply
from loadstone.planning.place import room_on_host
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.read.engine import Files, Request, Traffic, read_tensors, same_bytes
from loadstone.read.files import FarFiles, Identity, OpenFiles, identity, is_mappable
from loadstone.read.on_disk import OnDisk
from loadstone.read.progress import byte_bar
from loadstone.read.tensor import HostTensor

logger = logger_of(__name__)


class FromFiles(Supply):
    """Every stored tensor that a plan uses.

    Args:
        prepared: The load, decided.
        given: How to read.

    Attributes:
        traffic: The bytes moved.
    """

    def __init__(self, prepared: Prepared, given: LoadArguments) -> None:
        self.prepared, self.given, self.traffic = prepared, given, Traffic()

    @contextlib.contextmanager
    def opened(self, plan: LoadPlan) -> Iterator[tuple[LoadPlan, Iterator[HostTensor]]]:
        """Fetch the files that the plan needs, or read them where they lie; decide the open ties, and give the tensors.

        Raises:
            ChangedFileError: If a file changed since its header was read.
            SourceError: If a file cannot be fetched.
            MatchError: If a tie cannot be kept.
        """
        snapshot, needed = self.prepared.snapshot, plan.files
        names = [name for name in self.prepared.index.files if name in needed]
        paths = {} if snapshot.reads_at_once else snapshot.fetch(names)
        identities = self._identities(paths)
        with FarFiles(snapshot, names) if snapshot.reads_at_once else OpenFiles(paths, identities) as files:
            plan = self._with_ties_decided(plan, files)
            requests = list(self._requests(plan, paths))
            if stays := [one for one in requests if self.prepared.placement.of(one.name).device is None]:
                self.on_disk = self._on_disk(stays, plan, paths, identities)
                requests = [one for one in requests if one.name not in self.on_disk.requests]
            tensors = read_tensors(
                files,
                requests,
                alignment=self.prepared.target.backend.capabilities.alignment,
                traffic=self.traffic,
                bar=functools.partial(byte_bar, what="Loading"),
            )
            # Closed, so that whatever ends the load ends the threads that read; the error holds this frame.
            with closing(tensors):
                yield plan, tensors
            files.check_unchanged()

    def _identities(self, paths: Mapping[str, Path]) -> Mapping[str, Identity]:
        """Return what the files are; what was planned from far away is checked again where it now lies."""
        prepared, given = self.prepared, self.given
        known = prepared.watched.identities
        if all(name in known for name in paths):
            return {name: known[name] for name in paths}
        identities = {name: identity(path) for name, path in paths.items()}
        if indexed(prepared.snapshot, given, prepared.target.architecture) != prepared.index:
            raise ChangedFileError(
                "the fetched files are not those whose headers were read",
                where=prepared.snapshot.location,
                hint="load again with force_download=True",
            )
        check_files(prepared.snapshot, paths.values(), **given.weights())
        return identities

    def _on_disk(
        self,
        stays: list[Request],
        plan: LoadPlan,
        paths: Mapping[str, Path],
        identities: Mapping[str, Identity],
    ) -> OnDisk:
        backend = self.prepared.target.backend
        return OnDisk(
            stays,
            paths=paths,
            identities=identities,
            alignment=backend.capabilities.alignment,
            room=room_on_host(plan, backend, self.prepared.placement, self.given.max_memory),
        )

    def _requests(self, plan: LoadPlan, paths: Mapping[str, Path]) -> Iterator[Request]:
        read, placement = self.given.read, self.prepared.placement
        may_map = {
            name for name, path in paths.items() if read == "map" or (read == "auto" and is_mappable(path))
        }
        aliases = self.prepared.target.backend.capabilities.aliases
        shared, taken = set(self.prepared.index.aliases.values()), self.prepared.index.overlapping()
        for assignment in plan.reads():
            recipe = assignment.recipe
            assert recipe is not None
            names = {info.name for info in recipe.sources}
            # Two parameters that are not tied must not share memory, even where one tensor is stored for both.
            mappable = aliases and recipe.sources[0].file in may_map and taken.isdisjoint(names)
            # Other devices copy: from a mapping, that would end the process if the file became shorter meanwhile.
            device = placement.of(assignment.name).device or placement.runs_on(assignment.name)
            mappable = mappable and device.is_host
            taken |= names & shared
            yield Request(name=assignment.name, recipe=recipe, shape=assignment.shape, mappable=mappable)

    def _with_ties_decided(self, plan: LoadPlan, files: Files) -> LoadPlan:
        """Tie parameters that are stored twice with equal bytes; keep the others apart, with a warning."""
        if not plan.compare:
            return plan
        where = self.prepared.snapshot.location
        assignments = dict(plan.assignments)
        for name, to in plan.compare:
            one, other = (self._stored(assignments[tied]) for tied in (name, to))
            if same_bytes(files, one, other, traffic=self.traffic):
                shape = assignments[name].shape
                assignments[name] = Assignment(name=name, state="tied", shape=shape, to=to)
            elif not plan.may_differ:
                raise MatchError(
                    "the model has two parameters tied that the checkpoint stores with different values",
                    where=where,
                    problems=[f"{one.file}: {one.name}", f"{other.file}: {other.name}"],
                    hint="load the checkpoint with from_pretrained, which keeps them apart",
                )
            else:
                logger.warning(
                    "%s: the configuration ties %s and %s, the checkpoint stores them with different values: kept apart",
                    where,
                    name,
                    to,
                )
        return dataclasses.replace(plan, assignments=assignments)

    def _stored(self, assignment: Assignment) -> TensorInfo:
        """Return the stored tensor of a parameter that is compared with another; it is one, and taken as it is."""
        assert assignment.recipe is not None
        [name] = {info.name for info in assignment.recipe.sources}
        return self.prepared.index.tensors[name]
