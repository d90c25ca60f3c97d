"""A snapshot of what lies under an address: listed once, read in ranges, held against its listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from loadstone.errors import ChangedFileError, SourceError
from loadstone.source import Snapshot, SourceFile, safe_name
from loadstone_fsspec.faults import attempt, is_denied, is_missing

REQUESTS = 8
"""Reads that are on their way at once; each is of at most 8 MiB."""

DEPTH = 2
"""Levels of folders that are listed."""

_MARKS = (
    "ETag",
    "etag",
    "generation",
    "blob_id",
    "Content-MD5",
    "Last-Modified",
    "mtime",
    "LastModified",
    "created",
)
"""What tells a file from the one that replaces it, the surest first; stores give one or several of them."""

Entry = Mapping[str, Any]
"""What fsspec says of one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarSnapshot(Snapshot):
    """Files that are read where they lie.

    Attributes:
        filesystem: fsspec's.
        base: Its path of the folder, without a slash at the end.
        marks: File name -> what tells it from one that replaces it.
        whole: The listing names every file; where it does not, files are asked for by name.
        asked: Those that have been.
    """

    filesystem: Any = field(repr=False)
    base: str
    marks: dict[str, str] = field(repr=False)
    whole: bool
    asked: dict[str, SourceFile | None] = field(default_factory=dict, repr=False)

    @property
    def requests(self) -> int:
        """Reads at once."""
        return REQUESTS

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        raise SourceError(
            "files of this source are read where they lie, and have no path on this machine",
            where=self.location,
            found=", ".join(file.name for file in files)[:200],
            hint="copy the checkpoint to a folder and load it from there",
        )

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        at, end = offset, offset + length
        while at < end:  # an answer may be shorter than what was asked for
            parts.append(self._part(file, at, end))
            at += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, file: SourceFile, start: int, stop: int) -> bytes:
        """Return bytes from `start` on, at least one and none beyond `stop`."""
        where = f"{self.location}: {file.name}"

        def request() -> bytes:
            data: bytes = self.filesystem.cat_file(self._path(file.name), start=start, end=stop)
            if not data:
                raise ConnectionError(f"no bytes at {start:,}, where the file has {file.size:,}")
            return data

        try:
            data = attempt(request, where=where)
        except SourceError:
            self._check(file)  # it may be another one by now, which says more
            raise
        if len(data) > stop - start:
            self._check(file)
            raise _no_ranges(where, f"{stop - start:,} bytes", f"{len(data):,} bytes")
        return data

    def _check(self, file: SourceFile) -> None:
        entry = attempt(lambda: self._entry(file.name), where=f"{self.location}: {file.name}")
        expected = _told(file.size, self.marks[file.name])
        found = _told(entry.get("size"), _mark(entry))
        if found != expected:
            raise ChangedFileError(
                "a file changed while it was being loaded",
                where=f"{self.location}: {file.name}",
                expected=expected,
                found=found,
                hint="load again when nothing writes there any more",
            )

    def _unlisted(self, name: str) -> SourceFile | None:
        if self.whole:
            return None
        if name not in self.asked:
            self.asked[name] = self._look_up(name)
        return self.asked[name]

    def _look_up(self, name: str) -> SourceFile | None:
        where = f"{self.location}: {name}"

        def look() -> Entry | None:
            try:
                return self._entry(name)
            except Exception as error:
                # Servers that list nothing say of what is not there that it may not be seen.
                if is_missing(error) or (is_denied(error) and self.asked):
                    return None
                raise

        entry = attempt(look, where=where)
        if entry is None:
            return None
        self.marks[name] = _mark(entry)
        return _file(name, entry, where=where)

    def _entry(self, name: str) -> Entry:
        self.filesystem.invalidate_cache(self._path(name))
        entry: Entry = self.filesystem.info(self._path(name))
        return entry

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}"


def open_source(address: str, *, subfolder: str = "") -> Snapshot:
    """Open an address; see `open_address`."""
    return open_address(address, subfolder=subfolder)


def open_hf_source(
    address: str, *, revision: str | None = None, subfolder: str = "", token: str | bool | None = None
) -> Snapshot:
    """Open `hf://org/name` at a revision; see `open_address`."""
    scheme, _, path = address.partition("://")
    if revision is not None:
        org, name, *deeper = path.split("/")
        path = "/".join([org, f"{name}@{revision.replace('/', '%2F')}", *deeper])
    options = {} if token is None else {"token": token}
    return open_address(f"{scheme}://{path}", subfolder=subfolder, **options)


def open_address(address: str, *, subfolder: str = "", **options: Any) -> Snapshot:
    """List what lies under an address; nothing of the files is read.

    Args:
        address: `scheme://...`, the folder that holds the checkpoint; any scheme that fsspec knows.
        subfolder: The folder below it that holds the checkpoint.
        **options: What fsspec's file system of the scheme is made with, e.g. `endpoint_url` and `anon` of s3.

    Returns:
        A snapshot, which `from_pretrained` takes in the place of a name.

    Raises:
        SourceError: There is nothing, it may not be read, nobody answers, or fsspec is not installed; its hint
            then names the extra.
    """
    scheme = address.partition("://")[0]
    where = "/".join(part for part in (address.rstrip("/"), subfolder.strip("/")) if part)
    filesystem = attempt(lambda: _filesystem(scheme, options), where=where)
    base = str(filesystem._strip_protocol(where)).rstrip("/")
    web = scheme in ("http", "https")
    entries = _pages(filesystem, base, where) if web else _listed(filesystem, base, where)
    files = {name: _file(name, entry, where=where) for name, entry in sorted(entries.items())}
    snapshot = FarSnapshot(
        location=address,
        commit=None,
        root=None,
        files=files,
        filesystem=filesystem,
        base=base,
        marks={name: _mark(entry) for name, entry in entries.items()},
        whole=bool(files),
    )
    if not files:
        if not web:
            raise SourceError("nothing lies at this address", where=where, hint="check the address")
        snapshot.has("config.json")  # whether anybody answers, and lets us read
    return snapshot


def _filesystem(scheme: str, options: Mapping[str, Any]) -> Any:
    import fsspec

    more: dict[str, Any] = {"skip_instance_cache": True}
    if scheme in ("http", "https"):
        import aiohttp

        # No limit for a whole answer, which may be slow; one for a server that says nothing.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        more["client_kwargs"] = {"timeout": timeout}
    if scheme in ("s3", "gs"):
        more["use_listings_cache"] = False
    return fsspec.filesystem(scheme, **more | dict(options))


def _listed(filesystem: Any, base: str, where: str) -> dict[str, Entry]:
    """Return file name -> entry of what a store lists."""

    def listing() -> Mapping[str, Entry]:
        filesystem.invalidate_cache()
        found: Mapping[str, Entry] = filesystem.find(base, maxdepth=DEPTH, detail=True)
        return found

    found = attempt(listing, where=where)
    if base in found:
        raise SourceError(
            "this is a file; a checkpoint is loaded from the folder that holds it",
            where=where,
            expected="a folder",
            hint="pass the address of the folder",
        )
    return {
        safe_name(path[len(base) + 1 :], where=where): entry
        for path, entry in found.items()
        if path.startswith(f"{base}/") and not path.endswith("/")
    }


def _pages(filesystem: Any, base: str, where: str) -> dict[str, Entry]:
    """Return file name -> entry of what a server's page of a folder links to; of a server that shows none, nothing."""

    def listing() -> Sequence[Entry]:
        try:
            found: Sequence[Entry] = filesystem.ls(f"{base}/", detail=True)
        except Exception as error:
            if is_missing(error) or is_denied(error):
                return []
            raise
        return found

    urls = {entry["name"] for entry in attempt(listing, where=where) if entry["type"] == "file"}
    names = {unquote(url[len(base) + 1 :]) for url in urls if url.startswith(f"{base}/") and "?" not in url}
    names = {name for name in names if name and "/" not in name and "#" not in name}

    def look(name: str) -> Entry | None:
        try:
            entry: Entry = filesystem.info(f"{base}/{name}")
        except Exception as error:
            if is_missing(error) or is_denied(error):  # a link to nothing
                return None
            raise
        return entry

    with ThreadPoolExecutor(REQUESTS, thread_name_prefix="loadstone-list") as pool:
        looked = pool.map(lambda name: (name, attempt(lambda: look(name), where=f"{where}: {name}")), names)
        return {safe_name(name, where=where): entry for name, entry in looked if entry is not None}


def _file(name: str, entry: Entry, *, where: str) -> SourceFile:
    size = entry.get("size")
    if not isinstance(size, int) or entry.get("partial") is False:
        raise _no_ranges(f"{where}: {name}", "the file's size, and parts of it on request", f"size {size}")
    return SourceFile(name=name, size=size)


def _mark(entry: Entry) -> str:
    """Return what tells a file from one that replaces it, in one form whether it was listed or asked for."""
    key = next((key for key in _MARKS if entry.get(key)), None)
    if key is None:
        return ""
    value = entry[key]
    if isinstance(value, datetime):
        value = value.timestamp()
    return f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"


def _told(size: object, mark: str) -> str:
    return f"{size:,} bytes, {mark or 'no ETag'}" if isinstance(size, int) else f"no size, {mark}"


def _no_ranges(where: str, expected: str, found: str) -> SourceError:
    return SourceError(
        "the server does not give out parts of files",
        where=where,
        expected=expected,
        found=found,
        hint="use a server or a proxy that answers range requests, or copy the checkpoint to a folder",
    )
