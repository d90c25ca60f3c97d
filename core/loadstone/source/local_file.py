"""Reading a file of this machine without trust in what lies there: a device, a pipe, a file that goes away."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from loadstone.errors import SourceError


def open_file(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Return the descriptor of a regular file; it does not wait for one that has nobody at its other end.

    Raises:
        SourceError: There is no such file, it may not be read, or it is a device, a pipe or a folder.
    """
    careful = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | careful)
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise SourceError(
        f"'{os.path.basename(path)}' is no file with a content of its own",
        where=path,
        expected="a regular file",
        found="a device, a pipe or a folder",
        hint="put the checkpoint's own file there",
    )


def read_span(path: Path, offset: int, length: int) -> bytes:
    """Read exactly `length` bytes of a local file.

    Raises:
        SourceError: The file ends before that, or cannot be read.
    """
    descriptor = open_file(path)
    try:
        with open(descriptor, "rb", closefd=False) as stream:
            stream.seek(offset)
            data = stream.read(length) if length else b""
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if len(data) < length:
        raise _changed(path, "shorter", f"{length:,} bytes from offset {offset:,}", f"{len(data):,} bytes")
    return data


def read_whole(path: Path, size: int) -> bytes:
    """Read a local file that had `size` bytes when it was listed.

    Raises:
        SourceError: It has another size now, or cannot be read.
    """
    data = read_span(path, 0, size)
    try:
        now = os.stat(path).st_size
    except OSError as error:
        raise unreadable(path, error) from error
    if now > size:
        raise _changed(path, "longer", f"{size:,} bytes", f"{now:,} bytes")
    return data


def unreadable(path: str | os.PathLike[str], error: OSError) -> SourceError:
    """Make the error for a file that the system does not give out, with the system's own error number."""
    gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
    told = SourceError(
        f"'{os.path.basename(path)}' cannot be read: {error.strerror or error}",
        where=path,
        hint=_NEXT.get(
            error.errno or 0, _NEXT[errno.ENOENT] if gone else "see to the disk and the file, then load again"
        ),
    )
    told.errno = error.errno
    return told


_NEXT = {
    errno.ENOENT: "it went away, as files do that are saved anew: load again",
    errno.EACCES: "give yourself the right to read it, and to enter its folder",
    errno.ELOOP: "remove the links that lead to one another",
    errno.EMFILE: "close files, or raise the limit (`ulimit -n`)",
    errno.ENFILE: "close files, or raise the limit (`ulimit -n`)",
}


def _changed(path: Path, how: str, expected: str, found: str) -> SourceError:
    return SourceError(
        f"'{path.name}' became {how} after it was listed",
        where=path,
        expected=expected,
        found=found,
        hint="load again when nothing writes to the folder any more",
    )
