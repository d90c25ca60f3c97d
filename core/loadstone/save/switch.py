"""The steps by which a finished save takes the old checkpoint's place; `loadstone.checkpoint.settled` tells the states."""

from __future__ import annotations

import os
import secrets
from pathlib import Path, PurePosixPath

from loadstone.checkpoint.settled import JOURNAL, STAGING, Switch, pending
from loadstone.save import disk
from loadstone.source.local import open_folder


def new_staging(folder: Path) -> Path:
    """Make an empty staging folder."""
    staging = folder / f"loadstone-save-{secrets.token_hex(8)}"
    disk.make_folder(staging)
    return staging


def complete(folder: Path, staging: Path, switch: Switch) -> None:
    """Switch, if that has not happened, and tidy up. Every file and the journal must have reached the disk."""
    staged = {path.relative_to(staging).as_posix() for path in _files(staging)}
    if switch.entry in staged:
        disk.rename(staging / switch.entry, folder / switch.entry)
    disk.sync_folder(folder)
    for name in switch.entries:
        if switch.replaces(name):
            disk.remove(folder / name)
    for name in switch.files:
        if name in staged and name != switch.entry:
            folders = make_folders(folder, name)
            disk.rename(staging / name, folder / name)
            for below in folders:
                disk.sync_folder(below)
    for name in sorted(filter(switch.replaces, os.listdir(folder))):
        disk.remove(folder / name)
    disk.sync_folder(folder)
    discard(staging)


def recover(folder: Path) -> None:
    """Finish what an earlier save into a folder left half-done, and remove what one that failed left behind."""
    with os.scandir(folder) as entries:
        left = [e.name for e in entries if STAGING.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    if not left:
        return
    snapshot = open_folder(folder, location=str(folder))
    for name in left:
        switch = pending(snapshot, name)
        if switch is not None:
            complete(folder, folder / name, switch)
        else:
            discard(folder / name)


def has_switched(staging: Path, entry: str) -> bool:
    """Return whether the entry of a staging folder whose journal is written has left it."""
    return (staging / JOURNAL).exists() and not (staging / entry).exists()


def discard(staging: Path) -> None:
    """Remove a staging folder, its journal first, so that it never counts when half gone."""
    disk.remove(staging / JOURNAL)
    for file in _files(staging):
        disk.remove(file)
    for below, _, _ in os.walk(staging, topdown=False):
        disk.remove_folder(Path(below))


def make_folders(root: Path, name: str) -> list[Path]:
    """Make the folders that a file lies in below another folder, and return them, the innermost first."""
    folders = [root / folder for folder in PurePosixPath(name).parents if folder.parts]
    for folder in reversed(folders):
        if not folder.is_dir():
            disk.make_folder(folder)
    return folders


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder, links to folders among them."""
    found = []
    for below, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(below, name))]
        found += [Path(below, name) for name in (*names, *links)]
    return sorted(found)
