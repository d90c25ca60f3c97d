"""From what the user said to the files that are meant."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadstone import plugins
from loadstone.errors import ArgumentError, SourceError, nearest
from loadstone.plugins.hookspecs import SourceRecord
from loadstone.source.hub import is_repository_id
from loadstone.source.local import names_beside
from loadstone.source.snapshot import Name, Snapshot

SCHEME = re.compile(r"([a-z][a-z0-9+.\-]+(?:@[a-zA-Z0-9._\-]+)?)://", re.ASCII)
"""The start of an address, `scheme@distribution` where two bring the scheme; a drive letter is no scheme."""


def resolve(
    name_or_path: Name,
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
        name_or_path: A folder; a repository id: `org/name` or `name`; an address, `scheme://...`, of which a plugin may
            bring the scheme, or `scheme@distribution://...` to choose between two; or a snapshot, which is returned as it is. A `Path` is always a folder.
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
        ArgumentError: The name is neither text nor a path, `force_download` contradicts `local_files_only` or
            `HF_HUB_OFFLINE`, or an argument was given that the source or a snapshot does not take.
        PluginError: No plugin brings the scheme, two do, or the one that does fails.

    Example:
        >>> snapshot = resolve("path/to/checkpoint")      # doctest: +SKIP
        >>> snapshot.has("config.json")                   # doctest: +SKIP
        True
    """
    asked: dict[str, Any] = {
        "revision": revision,
        "subfolder": subfolder or None,
        "cache_dir": cache_dir,
        "token": token,
        "force_download": force_download or None,
        "local_files_only": local_files_only or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if isinstance(name_or_path, Snapshot):
        _refuse_where(given, name_or_path)
        return name_or_path
    location = _location(name_or_path)
    return _open(_scheme(name_or_path, location), location, given)


def _scheme(name_or_path: object, location: str) -> str:
    """Return whose a name is: an existing folder's, the scheme's that it names, or else the Hub's."""
    folder = Path(os.path.expanduser(location))
    if location and os.path.isdir(folder):
        return "file"
    if isinstance(name_or_path, str) and (match := SCHEME.match(location)):
        return match[1]
    if not isinstance(name_or_path, str) or not is_repository_id(location) or os.path.isfile(folder):
        raise _not_found(location, folder, is_path=not isinstance(name_or_path, str))
    return "hub"


def _open(scheme: str, location: str, given: Mapping[str, Any]) -> Snapshot:
    claim, record = plugins.source_record(scheme)
    if "@" in scheme:
        location = f"{record.scheme}{location.removeprefix(scheme)}"
    opener = opener_of(claim, record)
    with plugins.answerable(claim, f"fails to open {location!r}"):
        _refuse_unknown(opener, scheme, given)
        snapshot = opener(location, **given)
    if not isinstance(snapshot, Snapshot):
        raise plugins.wrong_offer(
            claim, record.open, expected="a function that returns a loadstone.source.Snapshot", found=snapshot
        )
    return snapshot


def opener_of(claim: plugins.Claim, record: SourceRecord) -> Callable[..., object]:
    """Return the function of a source that opens a snapshot.

    Raises:
        PluginError: If it cannot be imported, or is something else.
    """
    with plugins.blamed(claim, f"offers {record.open!r}, which cannot be imported"):
        opener: Callable[..., object] = plugins.load_attribute(record.open)
    if not callable(opener):
        raise plugins.wrong_offer(claim, record.open, expected="a function", found=opener)
    return opener


def _refuse_unknown(opener: Callable[..., object], scheme: str, given: Mapping[str, Any]) -> None:
    """Raise ArgumentError for what the caller said of the place and the source does not take."""
    taken = inspect.signature(opener).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    if unknown := [name for name in given if name not in taken]:
        raise ArgumentError(
            f"the source {scheme!r} does not take {unknown[0]}=",
            expected=", ".join([*taken][1:]) or "the address alone",
            found=f"{unknown[0]}={given[unknown[0]]!r:.80}",
            hint="leave it out",
        )


def _refuse_where(given: Mapping[str, Any], snapshot: Snapshot) -> None:
    """Raise ArgumentError for what the caller said of the place where the place is a snapshot."""
    if given:
        name, value = next(iter(given.items()))
        raise ArgumentError(
            f"a snapshot is at one place already, and takes no {name}=",
            where=snapshot.location,
            found=f"{name}={value!r:.80}",
            hint="leave it out, or say it where the snapshot is opened",
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


def _not_found(location: str, folder: Path, *, is_path: bool) -> SourceError:
    """Say why a name is neither a folder nor a repository."""
    if os.path.isfile(folder):
        return SourceError(
            f"'{location}' is a file; a checkpoint is loaded from the folder that holds it",
            where=folder,
            expected="a folder, or a repository id",
            found=f"a file of {folder.stat().st_size:,} bytes",
            hint=f"pass '{folder.parent}'",
        )
    if is_path or _looks_like_path(location):
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
