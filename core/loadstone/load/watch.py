"""Holding the files of a load against their folder: what is read of them is of one save, or the load says so."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from loadstone.checkpoint.formats import is_foreign, is_pickled, is_stored, is_weights, weight_names
from loadstone.checkpoint.formats.names import ENDINGS
from loadstone.checkpoint.settled import CONFIG, GENERATION_CONFIG, is_staging, settle
from loadstone.errors import ChangedFileError, LoadstoneError, SourceError
from loadstone.source import Snapshot, SourceFile
from loadstone.source.local import FolderSnapshot

Identity = tuple[int, int, int]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A checkpoint, and what its files were before any of them was read.

    Attributes:
        snapshot: Its files, settled.
        identities: What each local one was that a load may read.
        folder: Where they lie, if saves can change them; None for the files of a commit.
    """

    snapshot: Snapshot
    identities: Mapping[str, Identity]
    folder: Path | None

    @contextlib.contextmanager
    def unchanged(self, variant: str | None) -> Iterator[None]:
        """Make sure that no save came while the body ran; an error in it may be because one did.

        Args:
            variant: Of the weights that are read.

        Raises:
            ChangedFileError: If config.json, the weights or generation_config.json are no longer what they were.
        """
        try:
            yield
        except ChangedFileError:
            raise
        except (LoadstoneError, OSError) as error:
            if (change := self._changed(variant)) is not None:
                raise change from error
            if self.folder is not None and _vanished(error):  # moved, by a save that tidied up
                raise changed(self.folder) from error
            raise
        if (change := self._changed(variant)) is not None:
            raise change
        if self.snapshot.reads_at_once:  # files of weights are looked at where they are read
            self.snapshot.check_unchanged(filter(_is_described_by, self.snapshot.files))

    def _changed(self, variant: str | None) -> ChangedFileError | None:
        if self.folder is None:
            return None
        read = {name for name in self.identities if is_weights(name, variant)}
        read |= {CONFIG, GENERATION_CONFIG, *weight_names(variant)}
        try:
            now = _identities(settle(_seen(self.folder, self.snapshot.location, read)))
        except (LoadstoneError, OSError):  # a file went while it was looked at
            return changed(self.folder)
        for name in sorted(read):
            if self.identities.get(name) != now.get(name):
                return changed(self.folder / name)
        return None


def watch(snapshot: Snapshot) -> Watched:
    """Settle a snapshot and note what its files are. Nothing of them may have been read before.

    Raises:
        ChangedFileError: If the folder changed since it was listed.
        SourceError: If what a save left half-done cannot be read.
    """
    folder = snapshot.root if isinstance(snapshot, FolderSnapshot) and snapshot.commit is None else None
    settled = settle(snapshot)
    identities = _identities(settled)
    for name, (size, *_) in identities.items():
        if folder is not None and settled.files[name].size != size:
            raise changed(folder / name)
    return Watched(snapshot=settled, identities=identities, folder=folder)


def steadily(action: Callable[[], T]) -> T:
    """Return what an action that only looks at files gives; where a save came in its way, at the second attempt.

    Raises:
        ChangedFileError: If the second fails too: what it then finds may be half-written.
    """
    try:
        return action()
    except (LoadstoneError, OSError) as error:
        if not isinstance(error, ChangedFileError) and not _vanished(error):
            raise
        first = error
    try:
        return action()
    except (LoadstoneError, OSError) as error:
        if isinstance(error, ChangedFileError) or not isinstance(first, ChangedFileError):
            raise
        raise first from error


def _vanished(error: BaseException) -> bool:
    return any(isinstance(one, FileNotFoundError) for one in (error, error.__cause__))


def changed(path: Path) -> ChangedFileError:
    """Make the error for a file that is no longer what it was."""
    return ChangedFileError(
        "the checkpoint was saved anew while it was being loaded",
        where=path,
        expected="the file that was there when the load began",
        found="another one" if os.path.exists(path) else "none under this name",
        hint="load again when nothing writes to the folder any more",
    )


def _identities(snapshot: Snapshot) -> dict[str, Identity]:
    from loadstone.read.files import identity

    found = {}
    ours = any(map(is_stored, snapshot.files))
    for name, file in snapshot.files.items():
        # Where there is none of our format, any file may be of a plugin's; which, its index will say.
        if file.path is not None and (_is_read(name) or not (ours or is_staging(name))):
            with contextlib.suppress(SourceError):  # it is gone; if a load needs it, the load fails
                found[name] = identity(file.path)
    return found


def _is_described_by(name: str) -> bool:
    return name in (CONFIG, GENERATION_CONFIG) or name.endswith(".index.json")


def _is_read(name: str) -> bool:
    weights = is_stored(name) or is_pickled(name) or is_foreign(name) or name.endswith(ENDINGS)
    return name in (CONFIG, GENERATION_CONFIG) or (weights and not is_staging(name))


def _seen(folder: Path, location: str, names: set[str]) -> FolderSnapshot:
    """Return a snapshot of these files as they are now, with what saves that are under way have staged."""
    with os.scandir(folder) as entries:
        staging = [entry.name for entry in entries if is_staging(entry.name) and entry.is_dir()]
    names = names | {
        Path(place, name).relative_to(folder).as_posix()
        for stage in staging
        for place, _, held in os.walk(folder / stage)
        for name in held
    }
    files = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # a name that is too long, a link in a circle
            size = (folder / name).stat().st_size
            files[name] = SourceFile(name=name, size=size, path=folder / name)
    return FolderSnapshot(location=location, commit=None, root=folder, files=files)
