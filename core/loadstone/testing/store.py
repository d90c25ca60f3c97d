"""Where the oracle's folders lie, when they are fresh, and how they are replaced. Standard library only."""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from loadstone.testing.case import Case

TRANSFORMERS = "5.23.0"
"""The version whose answers count."""

MANIFEST = "manifest.json"
REFERENCE = "reference.npz"
_HERE = Path(__file__).parent
JUDGED = ("unseen", "gradients")
"""Attributes of a case that decide what is compared, and not what is recorded."""
RECORDERS = (_HERE / "inputs.py", _HERE / "oracle" / "forward.py", _HERE / "oracle" / "record.py")
"""The sources that decide what a folder holds, beside the case's own row."""


def fingerprint(case: Case, *more: str, sources: tuple[Path, ...] = RECORDERS) -> str:
    """SHA-256 of all that decides what the case's folder holds.

    Args:
        case: The row of the table.
        more: Whatever else decides, such as the versions of another saver.
        sources: The files of those that write it.
    """
    row = {name: value for name, value in dataclasses.asdict(case).items() if name not in JUDGED}
    digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
    more += tuple(_source(case.answers)) if case.answers else ()
    # The pinned version and not the installed one: an environment without transformers finds the same fingerprint.
    for part in (TRANSFORMERS, *more, *(path.read_text() for path in sources)):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


def _source(name: str) -> Iterator[str]:
    """Yield the source of the module that a "module:attribute" names."""
    spec = importlib.util.find_spec(name.partition(":")[0])
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).read_text()


def stale(root: Path, cases: Iterable[Case]) -> list[Case]:
    """The cases whose folders are missing or were made from something else."""
    return [case for case in cases if not is_fresh(root / case.name, fingerprint(case))]


def is_fresh(folder: Path, expected: str) -> bool:
    """Whether the folder is complete and was made with that fingerprint."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return False
    return bool(manifest["fingerprint"] == expected)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the folder's lock, so that of several test processes one makes and the others wait."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the given folder's place when the block ends without an error; the lock is held."""
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed, as the lock is held
        shutil.rmtree(left)
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    new.mkdir()
    try:
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
