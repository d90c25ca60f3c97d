"""The files of a checkpoint as a supply of tensors: fetched where the plan needs them, held against their headers, read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from loadstone.checkpoint.open import check_files
from loadstone.checkpoint.recipe import Cast, Recipe
from loadstone.errors import ChangedFileError
from loadstone.load.arguments import LoadArguments
from loadstone.load.decide import Prepared, indexed
from loadstone.load.install import Supply
from loadstone.load.ties import with_ties_decided
from loadstone.planning.place import room_on_host
from loadstone.planning.records import LoadPlan
from loadstone.read.arriving import Arriving
from loadstone.read.engine import Traffic, read_tensors, same_bytes
from loadstone.read.files import Identity, OpenFiles, identity, is_mappable
from loadstone.read.on_disk import OnDisk
from loadstone.read.pieces import Request, would_map
from loadstone.read.progress import byte_bar
from loadstone.read.tensor import HostTensor


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
        snapshot, far = self.prepared.snapshot, self._far(plan)
        needed = plan.files - far
        paths = snapshot.fetch(name for name in self.prepared.index.files if name in needed)
        identities = self._identities(paths)
        opened = functools.partial(OpenFiles, paths, identities, far=snapshot, far_names=far)
        with opened() as files:
            equal = functools.partial(same_bytes, files, traffic=self.traffic)
            stored = self.prepared.index.tensors
            plan = with_ties_decided(plan, stored, equal, where=snapshot.location)
            requests = list(self._requests(plan, paths))
            stays = [one for one in requests if self.prepared.placement.of(one.name).device is None]
            there = {one.name for one in stays}
            late = {one.name: one for one in requests if self._is_late(one) and one.name not in there}
            if later := [*stays, *_of_nothing(plan), *late.values()]:
                arriving = self._arriving(late, opened()) if late else None
                self.on_disk = self._on_disk(later, plan, paths, identities, arriving)
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

    def _far(self, plan: LoadPlan) -> set[str]:
        """Return the files that are read where they lie: all, where the source says so; of a model in part what can be.

        A file in which something stays is needed for as long as the model is.
        """
        snapshot, placement = self.prepared.snapshot, self.prepared.placement
        if snapshot.reads_at_once:
            return set(plan.files)
        if not plan.in_state("absent"):
            return set()
        stay = dataclasses.replace(
            plan, assignments={n: a for n, a in plan.assignments.items() if placement.of(n).device is None}
        )
        return {name for name in plan.files - stay.files if snapshot.file(name).path is None}

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
        arriving: Arriving | None,
    ) -> OnDisk:
        backend = self.prepared.target.backend
        return OnDisk(
            stays,
            paths=paths,
            identities=identities,
            alignment=backend.capabilities.alignment,
            room=room_on_host(plan, backend, self.prepared.placement, self.given.max_memory),
            arriving=arriving,
        )

    def _is_late(self, request: Request) -> bool:
        """Return whether a tensor comes after the load has returned; of what is mapped nothing need come."""
        alignment = self.prepared.target.backend.capabilities.alignment
        return not self.given.wait and would_map(request, alignment) is None

    def _arriving(self, late: Mapping[str, Request], files: OpenFiles) -> Arriving:
        return Arriving(late, files, alignment=self.prepared.target.backend.capabilities.alignment)

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


def _of_nothing(plan: LoadPlan) -> Iterator[Request]:
    """Yield requests for what is absent: each has a shape and a dtype, and is made of nothing."""
    for one in plan.in_state("absent"):
        recipe = Recipe(sources=(), steps=(Cast(one.dtype),))
        yield Request(name=one.name, recipe=recipe, shape=one.shape, mappable=False)
