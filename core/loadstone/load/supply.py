"""The files of a checkpoint as a supply of tensors: fetched where the plan needs them, held against their headers, read."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from loadstone.checkpoint.open import check_files
from loadstone.errors import ChangedFileError
from loadstone.load.arguments import LoadArguments
from loadstone.load.decide import Prepared, indexed
from loadstone.load.install import Supply
from loadstone.load.ties import with_ties_decided
from loadstone.planning.place import room_on_host
from loadstone.planning.records import LoadPlan
from loadstone.read.engine import Request, Traffic, read_tensors, same_bytes
from loadstone.read.files import Identity, OpenFiles, identity, is_mappable
from loadstone.read.on_disk import OnDisk
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
        """Fetch the files that the plan needs, decide the open ties, and give the tensors as they arrive.

        Raises:
            ChangedFileError: If a file changed since its header was read.
            SourceError: If a file cannot be fetched.
            MatchError: If a tie cannot be kept.
        """
        needed = plan.files
        paths = self.prepared.snapshot.fetch(name for name in self.prepared.index.files if name in needed)
        identities = self._identities(paths)
        with OpenFiles(paths, identities) as files:
            equal = functools.partial(same_bytes, files, traffic=self.traffic)
            plan = with_ties_decided(plan, equal, where=self.prepared.snapshot.location)
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
            name: read == "map" or (read == "auto" and is_mappable(path)) for name, path in paths.items()
        }
        aliases = self.prepared.target.backend.capabilities.aliases
        shared, taken = set(self.prepared.index.aliases.values()), self.prepared.index.overlapping()
        for assignment in plan.reads():
            recipe = assignment.recipe
            assert recipe is not None
            names = {info.name for info in recipe.sources}
            # Two parameters that are not tied must not share memory, even where one tensor is stored for both.
            mappable = aliases and may_map[recipe.sources[0].file] and taken.isdisjoint(names)
            # Other devices copy: from a mapping, that would end the process if the file became shorter meanwhile.
            device = placement.of(assignment.name).device or placement.runs_on(assignment.name)
            mappable = mappable and device.is_host
            taken |= names & shared
            yield Request(name=assignment.name, recipe=recipe, shape=assignment.shape, mappable=mappable)
