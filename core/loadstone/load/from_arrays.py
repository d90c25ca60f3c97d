"""The arrays of a caller as a supply of tensors: shared with the model where that can be, else copied or cast once."""

from __future__ import annotations

import bisect
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import nbytes, to_numpy
from loadstone.errors import PlacementError
from loadstone.load.arguments import LoadArguments
from loadstone.load.arrays import HERE, on_host
from loadstone.load.decide import Prepared
from loadstone.load.install import Supply
from loadstone.load.ties import with_ties_decided
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.read.engine import Traffic
from loadstone.read.tensor import HostTensor


class FromArrays(Supply):
    """Every array of a state dict that a plan uses.

    An array that needs no cast and lies on the host is the parameter's own memory afterwards, where the framework can
    share it, as with PyTorch's `load_state_dict(assign=True)`.

    Args:
        prepared: The load, decided.
        given: The arrays, and how to take them.

    Attributes:
        traffic: Nothing is read from files.
    """

    def __init__(self, prepared: Prepared, given: LoadArguments) -> None:
        assert given.state_dict is not None
        self.arrays, self.copies = (
            {str(name): value for name, value in given.state_dict.items()},
            given.read == "copy",
        )
        self.prepared, self.traffic = prepared, Traffic()
        self._shared: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def opened(self, plan: LoadPlan) -> Iterator[tuple[LoadPlan, Iterator[HostTensor]]]:
        """Decide the open ties, and give the tensors one after the other.

        Raises:
            PlacementError: If one is to stay on disk, where none lies.
            MatchError: If a tie cannot be kept.
        """
        placement = self.prepared.placement
        if away := [one.name for one in plan.reads() if placement.of(one.name).device is None]:
            raise PlacementError(
                "arrays of a state dict cannot stay on disk",
                problems=away,
                hint="name devices alone in device_map=, or more room in max_memory=",
            )
        plan = with_ties_decided(plan, self.prepared.index.tensors, self._equal, where=HERE)
        yield plan, map(self._made, plan.reads())

    def _equal(self, one: TensorInfo, other: TensorInfo) -> bool:
        first, second = (on_host(info.name, self.arrays[info.name]) for info in (one, other))
        if (first.dtype, first.shape) != (second.dtype, second.shape):
            return False
        return first.address == second.address or bool((first.data == second.data).all())

    def _made(self, assignment: Assignment) -> HostTensor:
        recipe = assignment.recipe
        assert recipe is not None
        if recipe.whole is not None and recipe.dtype == recipe.whole.dtype:
            found = on_host(assignment.name, self.arrays[recipe.whole.name])
            if not self.copies and self._is_first(found):
                return found
        return self._put_together(assignment)

    def _put_together(self, assignment: Assignment) -> HostTensor:
        import numpy as np

        from loadstone.read.memory import aligned_empty
        from loadstone.read.steps import assemble

        recipe = assignment.recipe
        assert recipe is not None
        data = aligned_empty(nbytes(recipe.dtype, assignment.shape))
        array = data.view(to_numpy(recipe.dtype)).reshape(assignment.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # as where files are cast
            assemble(array, recipe.parts, lambda number: self._source(recipe.sources[number]))
        return HostTensor(name=assignment.name, dtype=recipe.dtype, shape=assignment.shape, data=data)

    def _source(self, info: TensorInfo) -> Any:
        return on_host(info.name, self.arrays[info.name]).numpy()

    def _is_first(self, tensor: HostTensor) -> bool:
        """Return whether no other parameter has memory of this tensor: two that are not tied must not share any."""
        start, end = tensor.address, tensor.address + tensor.nbytes
        at = bisect.bisect(self._shared, (start, sys.maxsize))
        overlaps = at and self._shared[at - 1][1] > start
        if overlaps or (at < len(self._shared) and self._shared[at][0] < end):
            return False
        if tensor.nbytes:
            self._shared.insert(at, (start, end))
        return True
