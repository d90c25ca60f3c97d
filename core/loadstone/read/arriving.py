"""Parameters on their way: read by a thread of its own, in the order in which blocks run, while the model runs already.

```
plan ── model with stand-ins ── embed_tokens ── layers.0 ── layers.1 ── ...     runs
                                      ▲             ▲            ▲
          a thread reads:       embed_tokens ── layers.0 ── layers.1 ── ...     take
```

What is waited for comes next, wherever it stands in that order.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Mapping

from loadstone.errors import out_of_memory
from loadstone.read.engine import Traffic, read_tensors
from loadstone.read.files import OpenFiles
from loadstone.read.pieces import Request
from loadstone.read.progress import Progress
from loadstone.read.tensor import HostTensor

Names = tuple[str, ...]


class Arriving:
    """Tensors that a thread reads; it holds no model, and ends with `stop`.

    Args:
        requests: What is read, by name.
        files: The files, which it closes at its end.
        alignment: As the engine has it.

    Attributes:
        traffic: Bytes that were read so far.
        fault: What ended the reading; None: nothing did.
    """

    def __init__(self, requests: Mapping[str, Request], files: OpenFiles, *, alignment: int) -> None:
        self.traffic = Traffic()
        self.fault: Exception | None = None
        self.total = sum(one.recipe.nbytes for one in requests.values())
        self._requests, self._files, self._alignment = requests, files, alignment
        self._came: dict[str, HostTensor] = {}
        self._given: set[str] = set()
        self._change, self._stopped = threading.Condition(), False
        self._wanted: frozenset[str] = frozenset()

    @property
    def names(self) -> Iterable[str]:
        """What is read."""
        return self._requests

    @property
    def progress(self) -> Progress:
        """How far the reading is."""
        return Progress(read=self.traffic.read, total=self.total, fault=self.fault)

    def begin(self, order: Iterable[Names]) -> None:
        """Start to read: what is named, in that order, and then the rest."""
        left = dict.fromkeys(self._requests)
        units = []
        for unit in (*order, tuple(left)):
            units.append(tuple(name for name in dict.fromkeys(unit) if name in left))
            for name in units[-1]:  # what is tied is in several units, and comes once
                del left[name]
        thread = threading.Thread(target=self._run, args=(units,), name="loadstone-arriving", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system starts no thread: each needs some memory of its own
            raise out_of_memory("for a thread that reads", found=str(error)) from error

    def has(self, name: str) -> bool:
        """Return whether a tensor is there."""
        with self._change:
            return name in self._came

    def take(self, names: Names) -> list[HostTensor]:
        """Return tensors once they are there, without those that were given away; they are held until `give_away`.

        Raises:
            ChangedFileError: If a file changed before they were read.
            SourceError: If they could not be read.
            OutOfMemoryError: If there was no memory.
        """
        with self._change:
            self._wanted |= set(names)
            self._change.wait_for(lambda: self.fault or not self._missing(names))
            if self._missing(names):
                assert self.fault is not None
                raise copy.copy(self.fault) from self.fault
            return [self._came[name] for name in names if name in self._came]

    def _missing(self, names: Names) -> bool:
        return any(name not in self._came and name not in self._given for name in names)

    def give_away(self, names: Names) -> None:
        """Hold tensors no longer: they are in a model."""
        with self._change:
            self._given.update(names)
            for name in names:
                self._came.pop(name, None)

    def stop(self) -> None:
        """Read no more: nobody wants it."""
        self._stopped = True

    def _run(self, units: list[Names]) -> None:
        try:
            while units and not self._stopped:
                wanted = self._wanted
                unit = next((one for one in units if not wanted.isdisjoint(one)), units[0])
                units.remove(unit)
                self._read(unit)
        except Exception as error:  # noqa: BLE001  # told where its block runs, and by whoever waits
            self.end(error)
        finally:
            self._files.close()

    def _read(self, unit: Names) -> None:
        requests = [self._requests[name] for name in unit]
        tensors = read_tensors(self._files, requests, alignment=self._alignment, traffic=self.traffic)
        found = {tensor.name: tensor for tensor in tensors}
        for file in dict.fromkeys(info.file for one in requests for info in one.recipe.sources):
            self._files.check(file)
        with self._change:
            self._came |= found
            self._change.notify_all()

    def end(self, error: Exception, *, without: Names = ()) -> None:
        """Say why what has not been given away will never be there, nor some of what has come."""
        with self._change:
            self.fault = error
            for name in without:
                self._came.pop(name, None)
            self._change.notify_all()
