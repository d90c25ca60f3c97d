"""Checkpoints that lie in a folder of this machine. Nothing here opens a socket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadstone.errors import SourceError, nearest
from loadstone.source.cache import RepositoryCache
from loadstone.source.names import safe_name
from loadstone.source.snapshot import Snapshot, SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSnapshot(Snapshot):
    """The files below one folder, as they were when it was listed."""

    root: Path

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        return [self.root / file.name for file in files]

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        return read_span(self.root / file.name, offset, length)

    def _missing(self, name: str) -> SourceError:
        path = self.root / name
        if path.is_symlink():
            return SourceError(
                f"'{name}' is a link to a file that is gone",
                where=path,
                expected="a link to an existing file",
                found=os.readlink(path),
                hint="put the file back, or copy or download the checkpoint again",
            )
        return Snapshot._missing(self, name)


def open_folder(folder: Path, *, location: str, subfolder: str = "") -> FolderSnapshot:
    """List an existing folder, or the subfolder of it that holds the checkpoint.

    Raises:
        SourceError: The subfolder does not exist or its name is unsafe, or the folder belongs to a download
            cache and a link in it leaves that cache.
    """
    root = folder / safe_name(subfolder, where="subfolder") if subfolder else folder
    if not root.is_dir():
        folders = [entry.name for entry in folder.iterdir() if entry.is_dir()]
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

    Links are followed: in an ordinary folder they are the user's own. Where the folder is a snapshot of a
    download cache, `inside` is that cache, which no link may leave.
    """
    files = {}
    for entry in _walk(root):
        path = Path(entry.path)
        if inside is not None:
            inside.check(path)
        name = path.relative_to(root).as_posix()
        files[name] = SourceFile(name=name, size=entry.stat().st_size, path=path)
    return dict(sorted(files.items()))


def _walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a folder once, whatever circle its links make."""
    pending, seen = [os.fspath(root)], set()
    while pending:
        folder = pending.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    yield entry
                elif (
                    entry.is_dir()
                    and not entry.name.startswith(".")
                    and os.access(entry.path, os.R_OK | os.X_OK)
                ):
                    pending.append(entry.path)


def read_span(path: Path, offset: int, length: int) -> bytes:
    """Read exactly `length` bytes of a local file.

    Raises:
        SourceError: The file ends before that.
    """
    with open(path, "rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    if len(data) < length:
        raise SourceError(
            f"'{path.name}' became shorter after it was listed",
            where=path,
            expected=f"{length:,} bytes from offset {offset:,}",
            found=f"{len(data):,} bytes",
            hint="load again when nothing writes to the folder any more",
        )
    return data
