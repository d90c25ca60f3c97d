"""From what the user said to the files that are meant."""

from __future__ import annotations

import os
import re
from pathlib import Path

from loadstone.errors import ArgumentError, SourceError, nearest
from loadstone.source.cache import RepositoryCache
from loadstone.source.hub import open_repository
from loadstone.source.hub_errors import Repository
from loadstone.source.local import names_beside, open_folder
from loadstone.source.snapshot import Snapshot

REPOSITORY_ID = re.compile(r"(\b[\w\-.]+\b/)?\b[\w\-.]{1,96}\b", re.ASCII)
"""The Hub's own rule, which also forbids `--` and `..`."""


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Snapshot:
    """Find a checkpoint and list its files; nothing is downloaded yet.

    An existing folder wins over a repository of the same name. A folder, `local_files_only=True` and
    `HF_HUB_OFFLINE=1` open no socket. When the Hub is out of reach, the commit that the download cache
    remembers is used, with a warning.

    Args:
        name_or_path: A folder, or a repository id: `org/name` or `name`. A `Path` is always a folder.
        revision: The branch, tag or commit of a repository; `main` if not given. A folder has none.
        subfolder: The folder below it that holds the checkpoint; names are then relative to that.
        cache_dir: Where downloads are kept, if not in the client's own cache.
        token: An access token, True for the stored one, False for none.
        force_download: Download again what the cache holds.
        local_files_only: Use the download cache alone.

    Returns:
        A snapshot: every later access is to the same commit.

    Raises:
        SourceError: There is no such folder, repository, revision or subfolder, it may not be seen, or the Hub
            cannot be reached and the cache holds nothing of it.
        ArgumentError: The name is neither text nor a path, or `force_download` contradicts `local_files_only` or `HF_HUB_OFFLINE`.

    Example:
        >>> snapshot = resolve("path/to/checkpoint")      # doctest: +SKIP
        >>> snapshot.has("config.json")                   # doctest: +SKIP
        True
    """
    location = _location(name_or_path)
    folder = Path(os.path.expanduser(location))
    if location and os.path.isdir(folder):
        return open_folder(folder, location=location, subfolder=subfolder)
    if not isinstance(name_or_path, str) or not _is_repository_id(location) or os.path.isfile(folder):
        raise _not_found(name_or_path, folder)
    from huggingface_hub import constants

    repository = Repository(
        name=location,
        revision=revision or "main",
        cache=RepositoryCache.of(location, cache_dir or constants.HF_HUB_CACHE),
        token=token,
    )
    return open_repository(
        repository, subfolder=subfolder, force_download=force_download, local_files_only=local_files_only
    )


def _location(name_or_path: object) -> str:
    found = os.fspath(name_or_path) if isinstance(name_or_path, str | os.PathLike) else None
    if isinstance(found, str):
        return found
    raise ArgumentError(
        f"a checkpoint has a name, and this is {'nothing' if name_or_path is None else 'none'}",
        where="name_or_path",
        expected="a folder, or a repository id: 'org/name' or 'name'",
        found=f"{name_or_path!r:.80}",
        hint="name one; from_config makes a model without a checkpoint",
    )


def _is_repository_id(name: str) -> bool:
    return bool(REPOSITORY_ID.fullmatch(name)) and "--" not in name and ".." not in name


def _not_found(name_or_path: str | os.PathLike[str], folder: Path) -> SourceError:
    """Say why a name is neither a folder nor a repository."""
    location = os.fspath(name_or_path)
    if os.path.isfile(folder):
        return SourceError(
            f"'{location}' is a file; a checkpoint is loaded from the folder that holds it",
            where=folder,
            expected="a folder, or a repository id",
            found=f"a file of {folder.stat().st_size:,} bytes",
            hint=f"pass '{folder.parent}'",
        )
    if not isinstance(name_or_path, str) or _looks_like_path(location):
        return SourceError(
            f"the folder '{location}' does not exist",
            where=folder.absolute(),
            expected="an existing folder, or a repository id: 'org/name' or 'name'",
            found=f"only {_existing(folder)} exists",
            hint=nearest(folder.name, names_beside(folder.parent))
            or "check the path and the working directory",
        )
    return SourceError(
        f"'{location}' is neither an existing folder nor the id of a repository",
        where="name_or_path",
        expected="a folder, or 'org/name' or 'name' in letters, digits, '-', '_' and '.'",
        found=repr(location),
        hint="check the spelling",
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _existing(folder: Path) -> Path:
    """Return the nearest folder above that exists."""
    return next(parent for parent in folder.absolute().parents if os.path.isdir(parent))
