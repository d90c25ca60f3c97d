"""The folder in which `huggingface_hub` keeps what it has downloaded of one repository.

Its layout is public (https://huggingface.co/docs/huggingface_hub/guides/manage-cache):

    models--org--name/refs/main                       holds a commit
    models--org--name/snapshots/<commit>/config.json  a link to ../../blobs/<etag>
    blobs/<xy>/<hash>                                 content that several repositories share
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from loadstone.errors import SourceError, logger_of
from loadstone.source.names import safe_name

logger = logger_of(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryCache:
    """What this machine holds of one repository.

    Attributes:
        folder: The repository's folder in the download cache; it need not exist.
    """

    folder: Path

    @classmethod
    def of(cls, repo_id: str, cache_dir: str | os.PathLike[str]) -> RepositoryCache:
        """Return the cache of a repository below a cache folder."""
        top = Path(cache_dir).expanduser().absolute()
        return cls(folder=top / f"models--{repo_id.replace('/', '--')}")

    @classmethod
    def around(cls, folder: Path) -> RepositoryCache | None:
        """Return the cache that a folder is a snapshot of, or lies in a snapshot of, or None."""
        lineage = [folder.absolute(), *folder.absolute().parents]
        for repository, snapshots in zip(lineage[2:], lineage[1:], strict=False):
            if snapshots.name == "snapshots" and repository.name.startswith("models--"):
                return cls(folder=repository)
        return None

    def snapshot(self, commit: str) -> Path:
        """Return the folder in which the files of a commit lie."""
        return self.folder / "snapshots" / commit

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that a branch or tag pointed to when it was last downloaded, or None."""
        if COMMIT.fullmatch(revision):
            return revision
        reference = self._reference(revision)
        try:
            commit = reference.read_text(encoding="ascii", errors="replace").strip()
        except OSError:  # there is none, or it may not be read
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def remember(self, revision: str, commit: str) -> None:
        """Note where a branch or tag points, so that the next process finds it without the network."""
        if revision == commit or self.commit_of(revision) == commit:
            return
        reference = self._reference(revision)
        fresh = reference.with_name(f"{reference.name}.{secrets.token_hex(4)}.tmp")
        try:
            reference.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(commit, encoding="utf-8")
            fresh.replace(reference)
        except OSError as error:
            # A cache may be read-only. What was asked for is here all the same.
            logger.debug("Could not note that '%s' is commit %s: %s", revision, commit, error)

    def check(self, path: Path) -> Path:
        """Return a path of this cache, or refuse it if it is a link that leads out of the cache.

        Raises:
            SourceError: The file that would be opened lies outside the repository's folder and outside the
                store that repositories share.
        """
        linked = os.path.realpath(path)
        # `blobs` may itself be a link, to a larger disk: what counts is where it leads.
        shared = self.folder.parent / "blobs"
        allowed = [os.path.realpath(place) for place in (self.folder, self.folder / "blobs", shared)]
        if any(linked.startswith(place + os.sep) for place in allowed):
            return path
        raise SourceError(
            f"'{path.name}' in the download cache is a link that leads out of it",
            where=path,
            expected=f"a file below {self.folder}",
            found=linked,
            hint="delete the repository's folder from the cache and load again",
        )

    def _reference(self, revision: str) -> Path:
        return self.folder / "refs" / safe_name(revision, where="revision")
