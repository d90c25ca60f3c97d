"""The files of a checkpoint while they are read: opened as needed, mapped at most once, watched for changes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from loadstone.errors import ChangedFileError, SourceError
from loadstone.read.memory import Bytes, map_file
from loadstone.source import Snapshot
from loadstone.source.local_file import open_file, unreadable

MAX_OPEN = 16
"""Files that stay open at once; more than there are threads that read."""

# File systems on which a page fault can be a network request, or deadlock: their files are read, not mapped.
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "virtiofs"}
)

# Spaces, tabs, newlines and backslashes in the name of a mount stand as their octal numbers.
_OCTAL = re.compile(r"\\([0-7]{3})")

Identity = tuple[int, int, int]


def identity(path: Path) -> Identity:
    """Return what changes when a file is written or replaced: size in bytes, mtime in nanoseconds, inode."""
    try:
        return _identity(path.stat())
    except FileNotFoundError as error:
        raise SourceError("a file of the checkpoint is gone", where=path, hint="load again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _identity(status: os.stat_result) -> Identity:
    return status.st_size, status.st_mtime_ns, status.st_ino


@dataclasses.dataclass(slots=True)
class _Open:
    """A descriptor, and how many read from it now."""

    descriptor: int
    users: int = 0


class OpenFiles:
    """File name -> descriptor and mapping; use it as a context manager.

    A file is opened when it is needed, and at most `MAX_OPEN` stay open, whatever the number of shards. Mappings
    outlive it where tensors alias them, and hold no descriptor.

    Args:
        paths: File name -> path.
        identities: What the files were when the load was planned.
        far: What reads files that do not lie here.
        far_names: Those files.
        keep: How many stay open.
        when: Since when they may not change, for the error.

    Raises:
        ChangedFileError: If a file is no longer what it was.
        SourceError: If one is gone.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        identities: Mapping[str, Identity],
        *,
        far: Snapshot | None = None,
        far_names: Collection[str] = (),
        keep: int = MAX_OPEN,
        when: str = "while it was being loaded",
    ) -> None:
        self._paths, self._identities = paths, identities
        self._far, self._far_names = far, frozenset(far_names if far is not None else ())
        self._keep, self._when = keep, when
        self._open: dict[str, _Open] = {}  # the one used longest ago first
        self._maps: dict[str, Bytes] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.check_unchanged()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; mappings stay as long as something aliases them."""
        with self._lock:
            for held in self._open.values():
                os.close(held.descriptor)
            self._open.clear()
        self._maps.clear()

    @contextlib.contextmanager
    def descriptor(self, name: str) -> Iterator[int]:
        """Give an open descriptor of a file, which stays open for as long as it is used.

        Raises:
            ChangedFileError: If the file is no longer what it was.
            SourceError: If it cannot be opened.
        """
        with self._lock:
            held = self._open.pop(name, None) or _Open(self._opened(name))
            self._open[name] = held
            held.users += 1
            self._close_idle()
        try:
            yield held.descriptor
        finally:
            with self._lock:
                held.users -= 1

    def _opened(self, name: str) -> int:
        descriptor = open_file(self._paths[name])
        if _identity(os.fstat(descriptor)) != self._identities[name]:
            os.close(descriptor)
            raise self._changed(name)
        return descriptor

    def _close_idle(self) -> None:
        idle = [name for name, held in self._open.items() if not held.users]
        for name in idle[: max(0, len(self._open) - self._keep)]:
            os.close(self._open.pop(name).descriptor)

    def path(self, name: str) -> Path:
        """Return where a file lies, for a library that reads it and others beside it.

        Raises:
            ChangedFileError: If the file is no longer what it was.
            SourceError: If it is gone, or does not lie here.
        """
        if name in self._far_names:
            raise SourceError(
                "a library reads these weights, from files of this machine alone",
                where=name,
                hint="fetch the whole checkpoint into a folder first, and load that",
            )
        self.check(name)
        return self._paths[name]

    def mapped(self, name: str) -> Bytes:
        """Return a private, copy-on-write mapping of a whole file; nothing is read until it is touched.

        Raises:
            ChangedFileError: If the file is no longer what it was.
            OutOfMemoryError: If there is no room for it among the process's addresses.
            SourceError: If it cannot be opened.
        """
        if name not in self._maps:
            with self.descriptor(name) as descriptor:
                if _identity(os.fstat(descriptor)) != self._identities[name]:  # it may be shorter now
                    raise self._changed(name)
                self._maps[name] = map_file(descriptor, self._identities[name][0], name=name)
        return self._maps[name]

    def forget_mappings(self) -> None:
        """Map anew what is asked for next; a mapping ends with the last array that aliases it."""
        self._maps.clear()

    def check(self, name: str) -> None:
        """Make sure that what is read of a file is what it was: by its descriptor, or by its path where none is open.

        Raises:
            ChangedFileError: If it is not.
            SourceError: If it is gone.
        """
        if self._far is not None and name in self._far_names:
            self._far.check_unchanged([name])
            return
        with self._lock:
            held = self._open.get(name)
            found = None if held is None else _identity(os.fstat(held.descriptor))
        if (found or identity(self._paths[name])) != self._identities[name]:
            raise self._changed(name)

    def check_unchanged(self) -> None:
        """Make sure that each file, by its path and by its descriptor, is what it was when the load was planned.

        Raises:
            ChangedFileError: If one is not.
            SourceError: If one is gone.
        """
        for name, path in self._paths.items():
            held = self._open.get(name)
            found = [identity(path)] + ([_identity(os.fstat(held.descriptor))] if held else [])
            if any(one != self._identities[name] for one in found):
                raise self._changed(name)
        if self._far is not None:
            self._far.check_unchanged(self._far_names)

    @property
    def reads_at_once(self) -> int:
        """How many reads of files that do not lie here may be on their way at once; 0: as many as of files here."""
        return self._far.reads_at_once if self._far is not None and self._far_names else 0

    def is_far(self, name: str) -> bool:
        """Return whether a file does not lie here, and is read by `fill` alone."""
        return name in self._far_names

    def fill(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
        """Read consecutive bytes of a file that does not lie here into buffers. Raises as `Snapshot.read_into`."""
        assert self._far is not None
        self._far.read_into(name, offset, buffers)

    def _changed(self, name: str) -> ChangedFileError:
        return ChangedFileError(
            f"a file changed {self._when}",
            where=self._paths[name],
            expected=_told(self._identities[name]),
            found=_told(identity(self._paths[name])),
            hint="load again; to update a checkpoint replace its files, never overwrite them",
        )


def _told(found: Identity) -> str:
    size, modified, inode = found
    return f"{size:,} bytes, modified at {modified / 1e9:.6f} s, inode {inode}"


def is_mappable(path: Path) -> bool:
    """Return whether a file lies where mapping it is safe and fast: not on a network or FUSE file system."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux: nobody tells
        return True
    kind = file_system(os.path.realpath(path), mounts)
    return kind not in REMOTE and not kind.startswith("fuse")


def file_system(path: str, mounts: str) -> str:
    """Return the type of the file system that holds a path, "" where it lies below no mount.

    Args:
        path: Absolute, without links.
        mounts: The text of /proc/self/mountinfo; of two mounts on one place the later hides the earlier.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        mount = _OCTAL.sub(lambda escaped: chr(int(escaped[1], 8)), fields.split()[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, rest.split()[0]
    return kind
