"""The steps by which a finished save takes the old checkpoint's place; `loadstone.checkpoint.settled` tells the states."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

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
    if (staging / switch.entry).exists():
        disk.rename(staging / switch.entry, folder / switch.entry)
    disk.sync_folder(folder)
    for name in switch.entries:
        if switch.replaces(name):
            disk.remove(folder / name)
    for name in switch.files:
        if name != switch.entry and (staging / name).exists():
            _make_folders(folder, name)
            disk.rename(staging / name, folder / name)
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
    _empty(staging)


def _empty(folder: Path) -> None:
    with os.scandir(folder) as entries:
        found = sorted((Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in entries)
    for path, is_folder in found:
        if is_folder:
            _empty(path)
        else:
            disk.remove(path)
    disk.remove_folder(folder)


def _make_folders(folder: Path, name: str) -> None:
    for part in name.split("/")[:-1]:
        folder /= part
        if not folder.exists():
            disk.make_folder(folder)
