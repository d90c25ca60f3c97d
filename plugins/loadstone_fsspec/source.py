"""From an address to a snapshot: what lies there is listed, or asked for by name; nothing of it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

from loadstone.errors import ArgumentError, SourceError
from loadstone.source import Snapshot, safe_name
from loadstone_fsspec.faults import attempt, is_denied, is_missing
from loadstone_fsspec.snapshot import READS, Entry, FarSnapshot

MAX_LINKS = 2_000
"""Links of a server's page that are followed; a checkpoint has some hundreds of files."""

ASKED = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
"""What is asked for by name where no listing says all: the first must answer, the others change what a load does."""

WEB = ("http", "https")


def open_source(address: str, *, subfolder: str = "") -> Snapshot:
    """Open an address; see `open_address`."""
    return open_address(address, subfolder=subfolder)


def open_hf_source(
    address: str, *, revision: str | None = None, subfolder: str = "", token: str | bool | None = None
) -> Snapshot:
    """Open `hf://org/name`, at a revision; see `open_address`. Everything is of the commit that it is now."""
    scheme, _, path = address.partition("://")
    if revision is not None:
        if "@" in path:
            raise ArgumentError(
                "the address names a revision, and so does revision=",
                where=address,
                found=f"revision={revision!r:.80}",
                hint="leave one of them out",
            )
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
        ArgumentError: It is no address of a folder.
    """
    scheme = address.partition("://")[0]
    below = safe_name(subfolder, where="subfolder") if subfolder else ""
    where = "/".join(part for part in (address.rstrip("/"), below) if part)
    if scheme in WEB:
        _refuse_page(where)
    filesystem = attempt(lambda: _filesystem(scheme, options), where=where)
    base, commit = str(filesystem._strip_protocol(where)).rstrip("/"), None
    if scheme == "hf":
        base, commit = attempt(lambda: _at_its_commit(filesystem, base), where=where)
    listed = _links(filesystem, base, where) if scheme in WEB else _listed(filesystem, base, where)
    snapshot = FarSnapshot(
        location=address,
        commit=commit,
        root=None,
        files={},
        filesystem=filesystem,
        base=base,
        web=scheme in WEB,
        whole=isinstance(listed, dict),
    )
    _fill(snapshot, listed)
    if not snapshot.files:
        raise SourceError(
            "nothing lies at this address",
            where=where,
            expected="a folder with a config.json",
            hint="check the address",
        )
    return snapshot


def _filesystem(scheme: str, options: Mapping[str, Any]) -> Any:
    import fsspec

    more: dict[str, Any] = {"skip_instance_cache": True}
    if scheme in WEB:
        import aiohttp

        # No limit for a whole answer, which may be slow; one for a server that says nothing.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        more["client_kwargs"] = {"timeout": timeout}
    if scheme in ("s3", "gs"):
        more["use_listings_cache"] = False
    return fsspec.filesystem(scheme, **more | dict(options))


def _at_its_commit(filesystem: Any, base: str) -> tuple[str, str]:
    """Return a repository's path at the commit that its revision is now, and that commit."""
    from huggingface_hub import HfApi

    found = filesystem.resolve_path(base)
    api = HfApi(endpoint=filesystem.endpoint, token=filesystem.token)
    commit = str(api.repo_info(found.repo_id, repo_type=found.repo_type, revision=found.revision).sha)
    return dataclasses.replace(found, revision=commit, _raw_revision=None).unresolve(), commit


def _fill(snapshot: FarSnapshot, listed: Mapping[str, Entry] | Sequence[str]) -> None:
    """Note what was listed; where that may not be all, ask for files by name."""
    if isinstance(listed, Mapping):
        for name, entry in sorted(listed.items()):
            snapshot.add(name, entry)
        return
    snapshot.has(ASKED[0])  # whether anybody answers, and lets us read
    snapshot.look_for(sorted({*ASKED[1:], *listed}))
    names = sorted(snapshot.files, key=lambda name: snapshot.files[name].size)
    if parted := next((name for name in names if snapshot.files[name].size > 1), None):
        snapshot.read_range(parted, 0, 1)  # who answers with all of a file does so here, where it is small


def _listed(filesystem: Any, base: str, where: str) -> dict[str, Entry] | list[str]:
    """Return file name -> entry of what a store lists; no names where it may not be asked to list."""

    def listing(path: str) -> Sequence[Entry]:
        filesystem.invalidate_cache(path)
        found: Sequence[Entry] = filesystem.ls(path, detail=True)
        return found

    def at_top() -> Sequence[Entry] | None:
        try:
            return listing(base)
        except Exception as error:
            if is_denied(error):  # reading may be allowed
                return None
            raise

    found = attempt(at_top, where=where)
    if found is None:
        return []
    if any(entry["name"].rstrip("/") == base and entry["type"] == "file" for entry in found):
        raise SourceError(
            "this is a file; a checkpoint is loaded from the folder that holds it",
            where=where,
            expected="a folder",
            hint="pass the address of the folder",
        )
    folders = [entry["name"] for entry in found if entry["type"] == "directory"]
    with ThreadPoolExecutor(READS, thread_name_prefix="loadstone-list") as pool:
        below = pool.map(lambda path: attempt(lambda: listing(path), where=where), folders)
        entries = [*found, *(entry for part in below for entry in part)]
    return {
        safe_name(entry["name"][len(base) + 1 :], where=where): entry
        for entry in entries
        if entry["type"] == "file"
        and entry["name"].startswith(f"{base}/")
        and not entry["name"].endswith("/")
    }


def _links(filesystem: Any, base: str, where: str) -> list[str]:
    """Return names of what a server's page of a folder links to; of a server that shows none, nothing."""

    def listing() -> Sequence[Entry]:
        try:
            found: Sequence[Entry] = filesystem.ls(f"{base}/", detail=True)
        except Exception as error:
            if is_missing(error) or is_denied(error):
                return []
            raise
        return found

    urls = {entry["name"] for entry in attempt(listing, where=where) if entry["type"] == "file"}
    names = {url[len(base) + 1 :] for url in urls if url.startswith(f"{base}/")}
    names = {unquote(name) for name in names if name and not set("?#/") & set(name)}
    if len(names) > MAX_LINKS:
        raise SourceError(
            "the page of this folder has more links than a checkpoint has files",
            where=where,
            expected=f"at most {MAX_LINKS:,}",
            found=f"{len(names):,}",
            hint="put the checkpoint into a folder of its own",
        )
    return sorted(safe_name(name, where=where) for name in names)


def _refuse_page(address: str) -> None:
    """Refuse addresses of the Web that no file's name can follow."""
    parts = urlsplit(address)
    if parts.query or parts.fragment:
        raise ArgumentError(
            "an address with a query or a fragment is none of a folder",
            where="name_or_path",
            expected="https://host/folder, to which names of files are added",
            found=f"{address!r:.80}",
            hint="give the address of the folder; credentials go to loadstone_fsspec.open_address(address, **options)",
        )
    path = parts.path.strip("/")
    if parts.hostname in ("huggingface.co", "hf.co", "www.huggingface.co") and "/resolve/" not in parts.path:
        name = "/".join(path.split("/")[:2])
        raise ArgumentError(
            "this is the page of a repository, and a repository goes by its id",
            where="name_or_path",
            expected="'org/name', and revision= where another than main is meant",
            found=f"{address!r:.80}",
            hint=f"pass {name!r}" if name else None,
        )
