"""The files of a checkpoint while they are read: opened once, mapped at most once, watched for changes."""

from __future__ import annotations

import mmap
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from loadstone.errors import ChangedFileError, SourceError

# Linux's, and not in Python's mmap module: a private mapping reserves no swap, so that a file larger than memory can be
# mapped. Other systems reserve none in any case.
MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0

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
        found = path.stat()
    except OSError as error:
        raise SourceError("a file of the checkpoint is gone", where=path, hint="load again") from error
    return found.st_size, found.st_mtime_ns, found.st_ino


class OpenFiles:
    """File name -> descriptor and mapping; use it as a context manager.

    Mappings outlive it where tensors alias them.

    Args:
        paths: File name -> path.
        identities: What the files were when the load was planned.

    Raises:
        ChangedFileError: If a file is no longer what it was.
    """

    def __init__(self, paths: Mapping[str, Path], identities: Mapping[str, Identity]) -> None:
        self._paths, self._identities = paths, identities
        self._descriptors: dict[str, int] = {}
        self._maps: dict[str, np.ndarray[Any, np.dtype[np.uint8]]] = {}

    def __enter__(self) -> Self:
        try:
            for name, path in self._paths.items():
                identity(path)  # tells of one that is gone
                self._descriptors[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.check_unchanged()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; mappings stay as long as something aliases them."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._maps.clear()

    def descriptor(self, name: str) -> int:
        """Return the open descriptor of a file."""
        return self._descriptors[name]

    def mapped(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a private, copy-on-write mapping of a whole file; nothing is read until it is touched."""
        if name not in self._maps:
            flags = mmap.MAP_PRIVATE | MAP_NORESERVE
            descriptor, size = self._descriptors[name], self._identities[name][0]
            try:
                held = mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            except ValueError as error:  # it is shorter now
                raise self._changed(name) from error
            self._maps[name] = np.frombuffer(held, np.uint8)
        return self._maps[name]

    def check_unchanged(self) -> None:
        """Make sure that each file, by its path and by its descriptor, is what it was when the load was planned.

        Raises:
            ChangedFileError: If one is not.
        """
        for name, path in self._paths.items():
            planned = self._identities[name]
            held = os.fstat(self._descriptors[name])
            if identity(path) != planned or (held.st_size, held.st_mtime_ns, held.st_ino) != planned:
                raise self._changed(name)

    def _changed(self, name: str) -> ChangedFileError:
        return ChangedFileError(
            "a file changed while it was being loaded",
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
