"""How much anonymous memory a block of code takes; of the standard library alone, since peers' environments run it too."""

import threading
from typing import Self


def anonymous() -> int:
    """Return the bytes of this process's memory that no file backs."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


class Growth:
    """The most anonymous memory above that at the start of the block, sampled every few milliseconds."""

    PERIOD = 0.005

    def __enter__(self) -> Self:
        self.start = self.most = anonymous()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(self.PERIOD):
            self.most = max(self.most, anonymous())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watcher.join()
        self.end = anonymous()
        self.most = max(self.most, self.end)

    @property
    def growth(self) -> int:
        """Bytes."""
        return self.most - self.start

    @property
    def left(self) -> int:
        """Bytes that the block took and did not give back."""
        return self.end - self.start
