"""Parameters that stay in the files of their checkpoint: each comes when its block runs, and goes when nobody holds it.

Nothing here knows a framework. A backend says once in which order it needs what (`in_order`), asks for what one call needs
(`bring`), and lets go of it by forgetting it:

```
embed_tokens ── layers.0 ── layers.1 ── ...        in_order
     bring ───────┐
                  └── layers.1 comes meanwhile, on a thread of its own, where memory has room for both
```

Parameters of a load that does not wait are here too until they have come (`arriving`): these come once, and core puts them into
the model for good (`receive`). What is absent is here with nothing behind it: to bring it is an error.

What can be aliased is mapped and not read, anew for each call: its memory is the system's copy of the file, and given back
with the last array that aliases it. The rest is read, and cast on the way, by the engine that loads models. Nothing is written.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from loadstone.checkpoint.recipe import Recipe, Slice
from loadstone.dtypes import nbytes
from loadstone.errors import LoadstoneError, PlacementError
from loadstone.read.arriving import Arriving, Names
from loadstone.read.engine import Traffic, read_tensors
from loadstone.read.files import Identity, OpenFiles
from loadstone.read.memory import aligned_empty, available, fault_in
from loadstone.read.pieces import Request, would_map
from loadstone.read.tensor import HostTensor

ROWS = 4096
"""Rows of a table up to which they are looked up one by one."""

KEPT_OPEN = 64
"""Files that stay open; one that is open may be replaced, by a save into its folder, and is read on."""


def _row(request: Request, number: int) -> Request:
    """Return what brings one row of a table; its name is its number."""
    steps = (Slice(axis=0, start=number, stop=number + 1), *request.recipe.steps)
    recipe = Recipe(sources=request.recipe.sources, steps=steps)
    return Request(name=str(number), recipe=recipe, shape=(1, *request.shape[1:]), mappable=False)


def _nowhere(tensor: HostTensor) -> None:
    """Put a tensor nowhere: it is not asked before `deliver`."""
    raise AssertionError(f"{tensor.name} came before anybody said where to")


@dataclasses.dataclass(slots=True, eq=False)
class _Ahead:
    """What comes before it is asked for."""

    names: Names
    thread: threading.Thread | None = None
    tensors: dict[str, HostTensor] | None = None


class OnDisk:
    """Parameters that stay on disk.

    It may be shared by copies of a model, used by several threads, and pickled: where it is unpickled, the files must lie
    under the same paths, unchanged.

    Args:
        requests: What stays; how each is made from which stored tensors.
        paths: File -> its path.
        identities: What the files were when their headers were read.
        alignment: Bytes to which an address must be aligned to be aliased, as `Capabilities` has it.
        room: Bytes of memory that what is brought may take on the host; None: half of what the system has available.
        arriving: What of it comes once, and stays in the model; None: nothing.

    Attributes:
        requests: Parameter -> what it is made from, its shape and dtype; what is absent is made from nothing.
        awaited: The parameters that have yet to come into the model.
        traffic: Bytes that were read and mapped so far.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        *,
        paths: Mapping[str, Path],
        identities: Mapping[str, Identity],
        alignment: int,
        room: int | None = None,
        arriving: Arriving | None = None,
    ) -> None:
        self.requests = {request.name: request for request in requests}
        self.arriving, self.awaited = arriving, set[str]() if arriving is None else set(arriving.names)
        self._put: Callable[[HostTensor], object] = _nowhere
        self._afterwards: list[Callable[[], object]] = []
        self._tables: dict[str, HostTensor] = {}
        used = dict.fromkeys(
            info.file for one in self.requests.values() for info in one.recipe.sources if info.file in paths
        )
        self._said: dict[str, Any] = {
            "paths": {name: paths[name] for name in used},
            "identities": {name: identities[name] for name in used},
            "alignment": alignment,
            "room": room,
        }
        self._after: dict[Names, Names] = {}
        self._open()
        if arriving is not None:
            weakref.finalize(self, arriving.stop)

    def _open(self) -> None:
        self.traffic, self._delivery = Traffic(), threading.RLock()
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._ahead: _Ahead | None = None
        self._files = OpenFiles(
            self._said["paths"],
            self._said["identities"],
            keep=KEPT_OPEN,
            when="since the model was loaded, which reads it as it runs",
        )
        weakref.finalize(self, self._files.close)

    def __getstate__(self) -> dict[str, Any]:
        self.wait()
        kept = {"requests": self.requests, "_said": self._said, "_after": self._after}
        return kept | {"arriving": None, "awaited": set(), "_tables": {}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __deepcopy__(self, memo: object) -> OnDisk:
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of all, as parameters."""
        return self.size_of(tuple(self.requests))

    def size_of(self, names: Names) -> int:
        """Return the bytes of parameters in the dtypes that they come in."""
        return sum(nbytes(one.dtype, one.shape) for one in map(self.requests.__getitem__, names))

    def where(self, name: str) -> str:
        """Say in words where a parameter is that is not in the model."""
        if name in self.awaited:
            return "still being read"
        return "on disk" if self.requests[name].recipe.sources else "absent"

    def in_order(self, units: Iterable[Names], *, tables: Names = ()) -> None:
        """Say in which order `bring` will be asked, so that one unit can come while the one before it runs.

        What is awaited begins to come, in that order.

        Args:
            units: What runs, with all that it needs, in its order.
            tables: Parameters of which a caller asks for `rows` until they are there: these come last.
        """
        units = list(units)
        found = [unit for one in units if (unit := self._staying(one)) and not self._absent(unit)]
        self._after = dict(itertools.pairwise(found))
        if self.arriving is not None:
            self.arriving.begin(sorted(units, key=lambda unit: bool(unit) and set(unit) <= set(tables)))

    def deliver(self, put: Callable[[HostTensor], object]) -> None:
        """Say what puts a parameter into the model for good; core says it."""
        self._put = put

    def afterwards(self, action: Callable[[], object]) -> None:
        """Have something done when the last of what is awaited has come."""
        self._afterwards.append(action)

    def receive(self, names: Names) -> None:
        """Wait for those of some parameters that are awaited; they are in the model then, for good.

        Raises:
            ChangedFileError: If one of their files is no longer what it was.
            SourceError: If one cannot be read.
            OutOfMemoryError: If there is no memory.
            BackendError: If the backend did not do with them what it was told.
        """
        if self.arriving is None or self.awaited.isdisjoint(names):
            return
        self.arriving.take(names := tuple(name for name in dict.fromkeys(names) if name in self.awaited))
        with self._delivery:  # nobody waits for a file in here
            wanted = tuple(name for name in names if name in self.awaited)
            tensors = self.arriving.take(wanted)
            try:
                for tensor in tensors:
                    self._put(tensor)
                if self.awaited.issubset(wanted):
                    self._finish()
            except Exception as error:
                self.arriving.end(error, without=wanted)
                raise
            self.arriving.give_away(wanted)
            self.awaited.difference_update(wanted)
            for name in wanted:
                self._tables.pop(name, None)

    def rows(self, name: str, numbers: Collection[int]) -> HostTensor | None:
        """Return a table that is awaited, in which some rows have their values, and others none; None: `receive` it.

        It is the same one at each call, so that several threads can look up their rows in it.

        Args:
            name: The table.
            numbers: Rows to look up; those that it does not have are the caller's to find.

        Raises:
            ChangedFileError: If its file is no longer what it was.
            SourceError: If it cannot be read.
            OutOfMemoryError: If there is no memory.
        """
        request = self.requests[name]
        whole = request.recipe.whole
        there = self.arriving is None or name not in self.awaited or self.arriving.has(name)
        if (
            there
            or len(numbers) > ROWS
            or whole is None
            or whole.encoding is not None
            or whole.file not in self._said["paths"]
        ):
            return None
        size = nbytes(request.dtype, request.shape[1:])
        data = aligned_empty(nbytes(request.dtype, request.shape))
        table = self._tables.setdefault(
            name, HostTensor(name=name, dtype=request.dtype, shape=request.shape, data=data)
        )
        wanted = [_row(request, number) for number in numbers if 0 <= number < request.shape[0]]
        for row in self._carried_out(wanted):
            table.data[int(row.name) * size : (int(row.name) + 1) * size] = row.data
        self._files.check(whole.file)
        return table

    def _finish(self) -> None:
        for action in self._afterwards:
            action()
        self._put, self._afterwards = _nowhere, []  # they hold the model

    def wait(self) -> None:
        """Wait for all that is awaited. Raises as `receive` does."""
        self.receive(tuple(self.awaited.copy()))  # others receive meanwhile

    def _staying(self, names: Names) -> Names:
        """Return those of some parameters that come anew each time."""
        return tuple(name for name in names if name not in self.awaited) if self.awaited else names

    def bring(self, names: Names) -> dict[str, HostTensor]:
        """Return parameters, in memory that is theirs until nobody holds it; what comes after them comes meanwhile.

        Those that are awaited are put into the model, and not returned.

        Args:
            names: One of the units of `in_order`, or any others.

        Raises:
            PlacementError: If one is absent.
            ChangedFileError: If one of their files is no longer what it was.
            SourceError: If one cannot be read.
            OutOfMemoryError: If there is no memory.
        """
        self.refuse_absent(names, "run")
        names, awaited = self._staying(names), names
        self.receive(awaited)
        if not names:
            return {}
        tensors = self._awaited(names) or self._fetched(names)
        for file in self._files_of(names):
            self._files.check(file)
        self._fetch_ahead(names, self._after.get(names, ()))
        return tensors

    def read(self, name: str) -> HostTensor:
        """Return one parameter in memory of its own, which outlives whatever happens to its file.

        Raises:
            PlacementError: If it is absent.
            ChangedFileError: If its file is no longer what it was.
            SourceError: If it cannot be read.
        """
        self.refuse_absent((name,), "be read")
        request = dataclasses.replace(self.requests[name], mappable=False)
        [tensor] = self._carried_out([request])
        for file in self._files_of((name,)):
            self._files.check(file)
        return tensor

    def _absent(self, names: Names) -> Names:
        return tuple(name for name in names if not self.requests[name].recipe.sources)

    def refuse_absent(self, names: Names, what: str) -> None:
        """Make sure that parameters are not absent.

        Args:
            names: They.
            what: What cannot be done without them, "run".

        Raises:
            PlacementError: If one is.
        """
        if absent := self._absent(names):
            raise PlacementError(
                f"what was left out of the load cannot {what}",
                found=f"{absent[0]} is absent",
                hint="load it too: name it in layers=, or give it a place in device_map=",
            )

    def _files_of(self, names: Names) -> Iterable[str]:
        return dict.fromkeys(info.file for name in names for info in self.requests[name].recipe.sources)

    def _fetched(self, names: Names) -> dict[str, HostTensor]:
        return {tensor.name: tensor for tensor in self._carried_out([self.requests[n] for n in names])}

    def _carried_out(self, requests: Iterable[Request]) -> list[HostTensor]:
        with self._turn:
            try:
                tensors = read_tensors(
                    self._files, requests, alignment=self._said["alignment"], traffic=self.traffic
                )
                return list(tensors)
            finally:
                self._files.forget_mappings()  # each call has its own, so that its memory goes with it

    def _fetch_ahead(self, now: Names, names: Names) -> None:
        """Begin to bring what comes next, unless memory has no room for it beside what was just brought."""
        needs = self._anonymous(names)
        room = available() // 2 if self._said["room"] is None else self._said["room"] - self._anonymous(now)
        if not names or (needs and needs > room):
            return
        ahead = _Ahead(names)

        def fetch() -> None:
            try:
                found = self._fetched(names)
                for tensor in found.values():
                    if tensor.mapped:
                        fault_in(tensor.data)
                ahead.tensors = found
            except (
                LoadstoneError,
                OSError,
                MemoryError,
            ):  # it is brought again where it runs, and fails there
                ahead.tensors = None

        ahead.thread = threading.Thread(target=fetch, name="loadstone-ahead", daemon=True)
        with self._lock:
            if self._ahead is not None:  # another thread runs the model too
                return
            self._ahead = ahead
            try:
                ahead.thread.start()
            except RuntimeError:  # the system starts no thread: nothing comes ahead then
                self._ahead = None

    def _awaited(self, names: Names) -> dict[str, HostTensor] | None:
        """Return what came ahead, if it is what is asked for; something else is dropped."""
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.thread is None:
            return None
        ahead.thread.join()
        return ahead.tensors if ahead.names == names else None

    def _anonymous(self, names: Names) -> int:
        """Return the bytes of memory that parameters take beside the system's copy of their files."""
        read = (name for name in names if would_map(self.requests[name], self._said["alignment"]) is None)
        return self.size_of(tuple(read))
