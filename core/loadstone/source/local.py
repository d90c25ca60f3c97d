"""Checkpoints that lie in a folder of this machine. Nothing here opens a socket."""

from __future__ import annotations

import itertools
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadstone import plugins
from loadstone.errors import ArgumentError, SourceError, nearest
from loadstone.source.cache import RepositoryCache
from loadstone.source.local_file import read_span, unreadable
from loadstone.source.names import safe_name
from loadstone.source.snapshot import Snapshot, SourceFile

MAX_LISTED = 10_000
"""Files of a folder that are listed, whatever they are; a checkpoint has some hundreds."""


def kinds() -> tuple[str, ...]:
    """Return the endings of the files that a load reads: those of the folder itself are always listed."""
    records = [*plugins.built_in_formats(), *plugins.other_formats()]
    return ".json", *(ending for _, record in records for ending in record.endings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSnapshot(Snapshot):
    """The files below one folder, as they were when it was listed."""

    root: Path

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        return [self.root / file.name for file in files]

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        return read_span(self.root / file.name, offset, length)

    def _unlisted(self, name: str) -> SourceFile | None:
        return find_file(self.root, name)

    def _missing(self, name: str) -> SourceError:
        path = self.root / name
        if os.path.islink(path):
            return SourceError(
                f"'{name}' is a link that leads to no file",
                where=path,
                expected="a link to an existing file that may be read",
                found=os.readlink(path),
                hint="put the file back, or copy or download the checkpoint again",
            )
        return Snapshot._missing(self, name)


def open_file_source(
    location: str,
    *,
    subfolder: str = "",
    revision: str | None = None,
    cache_dir: object = None,
    token: object = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> FolderSnapshot:
    """Open a folder, given by its path or as `file://` and its absolute path.

    Args:
        location: The path or address.
        subfolder: The folder below it that holds the checkpoint.
        revision: Taken and not needed, as all that follow: a folder has one, and nothing is downloaded from it.
        cache_dir: Not needed.
        token: Not needed.
        force_download: Not needed.
        local_files_only: Always so.

    Raises:
        SourceError: If it cannot be listed.
        ArgumentError: If the address is none of this machine.
    """
    path = location
    if location.startswith("file://"):
        from urllib.parse import unquote

        path = unquote(location.removeprefix("file://"))
        if not os.path.isabs(path):
            raise ArgumentError(
                "the address of a folder names another machine, or no absolute path",
                where="name_or_path",
                expected="'file:///absolute/path', or the path itself",
                found=f"{location!r:.80}",
            )
        if not os.path.isdir(path):
            raise SourceError(
                f"the folder '{path}' does not exist",
                where=path,
                hint="check the path and the working directory",
            )
    return open_folder(Path(os.path.expanduser(path)), location=path, subfolder=subfolder)


def open_folder(folder: Path, *, location: str, subfolder: str = "") -> FolderSnapshot:
    """List an existing folder, or the subfolder of it that holds the checkpoint.

    Raises:
        SourceError: The subfolder does not exist or its name is unsafe, or the folder belongs to a download
            cache and a link in it leaves that cache.
    """
    root = folder / safe_name(subfolder, where="subfolder") if subfolder else folder
    if not os.path.isdir(root):
        folders = [name for name in names_beside(folder) if os.path.isdir(folder / name)]
        raise SourceError(
            f"'{location}' has no folder '{subfolder}'",
            where=folder,
            found=f"the folders {', '.join(sorted(folders)[:6])}" if folders else "no folders",
            hint=nearest(subfolder, folders) or "leave `subfolder` out if the checkpoint lies at the top",
        )
    files = list_folder(root, inside=RepositoryCache.around(root))
    return FolderSnapshot(location=location, commit=None, root=root, files=files)


def list_folder(root: Path, *, inside: RepositoryCache | None = None) -> Mapping[str, SourceFile]:
    """List the files below a folder with their sizes, hidden folders left out.

    Links to files are followed: in an ordinary folder they are the user's own. Linked folders are not looked through,
    because they may hold anything, and of more than `MAX_LISTED` files only those of a checkpoint's kinds are listed;
    `find_file` finds what is not. What the system does not let us look at is left out.

    Args:
        root: The folder.
        inside: The download cache of which it is a snapshot, which no link may leave.

    Raises:
        SourceError: The folder itself cannot be listed, or a link leaves the cache.
    """
    files: dict[str, SourceFile] = {}
    wanted: tuple[str, ...] | None = None
    for entry in _walk(root):
        if len(files) >= MAX_LISTED:
            wanted = wanted or kinds()
            if not entry.name.endswith(wanted):
                continue
        path = Path(entry.path)
        found = _regular_file(path.relative_to(root).as_posix(), path, inside)
        if found is not None:
            files[found.name] = found
    return dict(sorted(files.items()))


def find_file(root: Path, name: str) -> SourceFile | None:
    """Return a file below a folder that its listing left out, or None where there is none.

    Raises:
        SourceError: A link leaves the download cache that the folder belongs to.
    """
    try:
        safe = safe_name(name, where="")
    except SourceError:
        return None
    return _regular_file(safe, root / safe, RepositoryCache.around(root))


def _regular_file(name: str, path: Path, inside: RepositoryCache | None) -> SourceFile | None:
    try:
        status = os.stat(path)
    except (
        OSError,
        ValueError,
    ):  # a link in a circle or to nothing, a name that is too long, no right to look
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    if inside is not None:
        inside.check(path)
    return SourceFile(name=name, size=status.st_size, path=path)


def _walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what lies below a folder and is no folder, the nearest first; no further folder after `MAX_LISTED` files."""
    pending, number = deque([os.fspath(root)]), 0
    while pending and number < MAX_LISTED:
        folder = pending.popleft()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        number += 1
                        yield entry
                    elif not entry.name.startswith("."):
                        pending.append(entry.path)
        except OSError as error:
            if folder == os.fspath(root):
                raise unreadable(root, error) from error


def names_beside(folder: Path) -> list[str]:
    """Return names of what lies in a folder, for a hint; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in itertools.islice(entries, MAX_LISTED)]
    except OSError:
        return []
