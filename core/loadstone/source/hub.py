"""Repositories on the Hub, and what the download cache holds of them when the Hub is out of reach."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loadstone.errors import ArgumentError, SourceError, logger_of, nearest
from loadstone.source.cache import COMMIT, RepositoryCache
from loadstone.source.hub_errors import HubUnreachableError, Repository, no_hub, plain_errors
from loadstone.source.hub_range import read_hub_range
from loadstone.source.local import FolderSnapshot, list_folder
from loadstone.source.local_file import read_span, unreadable
from loadstone.source.names import safe_name
from loadstone.source.snapshot import Snapshot, SourceFile, summary

if TYPE_CHECKING:
    from huggingface_hub.hf_api import HfApi, ModelInfo, RepoFile, RepoSibling

logger = logger_of(__name__)

REPOSITORY_ID = re.compile(r"(\b[\w\-.]+\b/)?\b[\w\-.]{1,96}\b", re.ASCII)
"""The Hub's own rule, which also forbids `--` and `..`."""

WORKERS = 8
"""Files that are downloaded at the same time, as many as `huggingface_hub.snapshot_download` takes."""

WHOLE_LISTING = 50_000
"""From this many files on, the Hub's answer about a repository may leave some out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSnapshot(Snapshot):
    """One commit of a repository on the Hub. Files are downloaded when asked for, and never twice."""

    root: Path
    commit: str
    repository: Repository
    subfolder: str
    force_download: bool
    _renewed: set[str] = field(default_factory=set, repr=False, compare=False)

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        here = {file.name: self._present(file) for file in files}
        absent = [file for file in files if here[file.name] is None]
        if absent:
            with ThreadPoolExecutor(max_workers=min(WORKERS, len(absent))) as pool:
                for file, arrived in zip(absent, pool.map(self._download, absent), strict=True):
                    here[file.name] = arrived
            self.repository.cache.remember(self.repository.revision, self.commit)
        return [path for file in files if (path := here[file.name]) is not None]

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        path = self._present(file)
        if path is not None:
            return read_span(path, offset, length)
        return read_hub_range(
            self.repository,
            self._in_repository(file),
            commit=self.commit,
            size=file.size,
            offset=offset,
            length=length,
        )

    def _present(self, file: SourceFile) -> Path | None:
        """Return the file's place in the download cache if it is there, whole and wanted."""
        path = self.root / file.name
        if not os.path.exists(path) or (self.force_download and file.name not in self._renewed):
            return None
        return self._whole(file, path)

    def _download(self, file: SourceFile) -> Path:
        from huggingface_hub import hf_hub_download

        from loadstone import __version__

        with plain_errors(self.repository, file.name):
            path = hf_hub_download(
                self.repository.name,
                self._in_repository(file),
                revision=self.commit,
                cache_dir=self.repository.cache.folder.parent,
                token=self.repository.token,
                force_download=self.force_download,
                library_name="loadstone",
                library_version=__version__,
            )
        self._renewed.add(file.name)
        return self._whole(file, Path(path))

    def _whole(self, file: SourceFile, path: Path) -> Path:
        """Return a cached path, or refuse one that leads elsewhere or is not as long as the Hub says."""
        self.repository.cache.check(path)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise unreadable(path, error) from error
        if size == file.size:
            return path
        raise SourceError(
            f"'{file.name}' in the download cache is not whole",
            where=path,
            expected=f"{file.size:,} bytes, as the Hub says for commit {self.commit}",
            found=f"{size:,} bytes",
            hint="load once more with force_download=True",
        )

    def _place(self) -> object:
        return f"{self.repository.url}/tree/{self.commit}/{self.subfolder}".rstrip("/")

    def _in_repository(self, file: SourceFile) -> str:
        return f"{self.subfolder}/{file.name}" if self.subfolder else file.name


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSnapshot(FolderSnapshot):
    """What the download cache holds of one commit, while the Hub is not to be asked or does not answer."""

    reason: str

    @property
    def partial(self) -> bool:
        """True: only what loads had use for was ever downloaded."""
        return True

    def _missing(self, name: str) -> SourceError:
        return SourceError(
            f"the download cache holds no '{name}' of '{self.location}', and {self.reason}",
            where=self.root,
            expected=f"'{name}' of commit {self.commit}",
            found=summary(self.files),
            hint=f"if the repository has this file, run `hf download {self.location}` with network access",
        )


def open_hub_source(
    location: str,
    *,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Snapshot:
    """Open a repository, given by its id or as `hub://` and its id. Arguments and errors are those of `resolve`."""
    from huggingface_hub import constants

    name = location.removeprefix("hub://")
    if not is_repository_id(name):
        raise ArgumentError(
            f"{name!r:.80} is not the id of a repository",
            where="name_or_path",
            expected="'org/name' or 'name' in letters, digits, '-', '_' and '.'",
            found=f"{location!r:.80}",
            hint="check the spelling",
        )
    repository = Repository(
        name=name,
        revision=revision or "main",
        cache=RepositoryCache.of(name, cache_dir or constants.HF_HUB_CACHE),
        token=token,
    )
    return open_repository(
        repository, subfolder=subfolder, force_download=force_download, local_files_only=local_files_only
    )


def is_repository_id(name: str) -> bool:
    """Return whether a text can be the id of a repository."""
    return bool(REPOSITORY_ID.fullmatch(name)) and "--" not in name and ".." not in name


def open_repository(
    repository: Repository,
    *,
    subfolder: str = "",
    force_download: bool = False,
    local_files_only: bool = False,
) -> Snapshot:
    """Fix the revision of a repository to a commit and list its files.

    One request to the Hub answers both. Without network access, asked for or not to be had, the commit that
    the download cache remembers is listed instead.

    Raises:
        SourceError: The repository, revision or subfolder does not exist or may not be seen, or the Hub is
            out of reach and the cache holds nothing of this revision.
        ArgumentError: `force_download` was asked for where nothing may be downloaded.
    """
    from huggingface_hub import constants

    subfolder = safe_name(subfolder, where="subfolder") if subfolder else ""
    offline = "local_files_only=True was passed" if local_files_only else "HF_HUB_OFFLINE is set"
    if local_files_only or constants.HF_HUB_OFFLINE:
        if force_download:
            raise ArgumentError(
                f"force_download=True asks for the network, but {offline}.", where=repository.name
            )
        cached = _open_cached(repository, subfolder, reason=offline)
        if cached is None:
            raise _nothing_cached(repository, offline)
        return cached
    try:
        return _open_online(repository, subfolder, force_download)
    except HubUnreachableError as error:
        if force_download:
            raise
        cached = _open_cached(repository, subfolder, reason="the Hub could not be reached")
        if cached is None:
            raise
        logger.warning("%s\nUsing commit %s from the download cache instead.", error.what, cached.commit)
        return cached


def _open_online(repository: Repository, subfolder: str, force_download: bool) -> HubSnapshot:
    from huggingface_hub import HfApi, constants

    api = HfApi(token=repository.token, library_name="loadstone")
    with plain_errors(repository):
        info = api.model_info(
            repository.name,
            revision=repository.revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
        entries = _entries(api, info, repository)
    if info.sha is None or not COMMIT.fullmatch(info.sha):
        raise no_hub(repository.url, expected="the commit of a revision", found=repr(info.sha))
    root = repository.cache.snapshot(info.sha) / subfolder
    return HubSnapshot(
        location=repository.name,
        commit=info.sha,
        root=root,
        files=_listing(entries, repository, subfolder, None if force_download else root),
        repository=repository,
        subfolder=subfolder,
        force_download=force_download,
    )


def _entries(api: HfApi, info: ModelInfo, repository: Repository) -> Sequence[RepoSibling | RepoFile]:
    """Return every file of the commit, also where the Hub's first answer had to leave some out."""
    if len(info.siblings or ()) < WHOLE_LISTING:
        return info.siblings or []
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repository.name, recursive=True, revision=info.sha)
    return [entry for entry in tree if isinstance(entry, RepoFile)]


def _listing(
    entries: Iterable[RepoSibling | RepoFile], repository: Repository, subfolder: str, cached: Path | None
) -> Mapping[str, SourceFile]:
    """Keep what lies in the subfolder, with sizes, digests and the places of what is here already."""
    files = {}
    folders = set()
    for entry in entries:
        folders.add(entry.rfilename.rpartition("/")[0])
        if subfolder and not entry.rfilename.startswith(f"{subfolder}/"):
            continue
        try:
            name = safe_name(entry.rfilename[len(subfolder) :].lstrip("/"), where=repository.url)
        except SourceError as error:
            logger.warning("Left out of the listing of %s: %s", repository.label, error)
            continue
        files[name] = _source_file(entry, name, cached, repository)
    if subfolder and not files:
        raise SourceError(
            f"{repository.label} has no folder '{subfolder}'",
            where=repository.url,
            found=f"the folders {summary(folders - {''})}" if folders - {""} else "no folders",
            hint=nearest(subfolder, folders) or "leave `subfolder` out if the checkpoint lies at the top",
        )
    return dict(sorted(files.items()))


def _source_file(
    entry: RepoSibling | RepoFile, name: str, cached: Path | None, repository: Repository
) -> SourceFile:
    size = entry.lfs.size if entry.lfs else entry.size
    if size is None:
        raise no_hub(f"{repository.url}: {name}", expected="the size of every file", found="no size")
    path = cached / name if cached else None
    return SourceFile(
        name=name,
        size=size,
        path=path if path and os.path.exists(path) else None,
        sha256=entry.lfs.sha256 if entry.lfs else None,
    )


def _open_cached(repository: Repository, subfolder: str, reason: str) -> CachedSnapshot | None:
    """List the commit that the cache remembers for the revision, or return None if it holds nothing of it."""
    commit = repository.cache.commit_of(repository.revision)
    if commit is None:
        return None
    root = repository.cache.snapshot(commit) / subfolder
    if not os.path.isdir(root):
        return None
    files = list_folder(root, inside=repository.cache)
    return CachedSnapshot(location=repository.name, commit=commit, root=root, files=files, reason=reason)


def _nothing_cached(repository: Repository, reason: str) -> SourceError:
    cache = repository.cache.folder
    references = cache / "refs"
    known = sorted(
        path.relative_to(references).as_posix() for path in references.rglob("*") if path.is_file()
    )
    return SourceError(
        f"the download cache holds nothing of {repository.label}, and {reason}",
        where=cache,
        expected="a snapshot from an earlier download",
        found=f"the revisions {', '.join(known[:6])}" if known else "nothing of this repository",
        hint=f"run `hf download {repository.name} --revision {repository.revision}` with network access",
    )
