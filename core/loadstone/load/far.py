"""What needs files of this machine, where a source has its files read where they lie."""

from __future__ import annotations

from loadstone.backend import Placement
from loadstone.errors import ArgumentError, PlacementError
from loadstone.load.arguments import LoadArguments
from loadstone.planning.records import LoadPlan
from loadstone.source import Snapshot

_COPY = "copy the checkpoint to a folder and load it from there"


def refuse_far(snapshot: Snapshot, given: LoadArguments, plan: LoadPlan, placement: Placement) -> None:
    """Refuse what only files of this machine allow.

    Raises:
        ArgumentError: If the caller insists on mapping.
        PlacementError: If parameters would stay on disk.
    """
    if not snapshot.reads_at_once:
        return
    if given.read == "map":
        raise ArgumentError(
            "what lies far away cannot be mapped",
            where=snapshot.location,
            expected="read='auto' or 'copy'",
            found="read='map'",
            hint=f"leave read out, or {_COPY}",
        )
    stays = [one.name for one in plan.reads() if placement.of(one.name).device is None]
    if stays:
        raise PlacementError(
            "parameters would stay on disk, and the files lie on none of this machine's",
            where=snapshot.location,
            expected="a place for each on a device",
            found=f"{len(stays):,} parameters on disk, {stays[0]} the first",
            hint=f"give the devices more in max_memory, or {_COPY}",
        )
