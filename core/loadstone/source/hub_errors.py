"""What goes wrong between this machine and the Hub, told in loadstone's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from loadstone.errors import SourceError
from loadstone.source.cache import RepositoryCache

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that say nothing about the repository: the Hub is busy or down."""


class HubUnreachableError(SourceError):
    """The Hub gave no answer, or one that says only that it is busy or down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository on the Hub, as the caller asked for it.

    Attributes:
        name: The repository id: `org/name` or `name`.
        revision: The branch, tag or commit.
        cache: What this machine holds of it.
        token: An access token, True for the stored one, False for none, None for the client's own choice.
    """

    name: str
    revision: str
    cache: RepositoryCache
    token: str | bool | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address of the repository's page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.name}"

    @property
    def label(self) -> str:
        """The repository and the revision, for a message."""
        return f"{self.name} at revision '{self.revision}'"


@contextmanager
def plain_errors(repository: Repository, name: str | None = None) -> Iterator[None]:
    """Turn the client's errors into one `SourceError` each, raised from the original.

    An error that the client does not define, such as a missing permission on the cache, passes through.

    Args:
        repository: The repository that is spoken to.
        name: The file concerned, where it is one.
    """
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        told = _tell(repository, name, error)
        if told is None:
            raise
        raise told from error


def _tell(repository: Repository, name: str | None, error: BaseException) -> SourceError | None:
    from huggingface_hub import errors

    where = f"{repository.url}: {name}" if name else repository.url
    if isinstance(error, errors.GatedRepoError):
        return _gated(repository, where, error.response.status_code)
    if isinstance(error, errors.RepositoryNotFoundError):
        return _no_repository(repository, where, error.response.status_code)
    if isinstance(error, errors.RevisionNotFoundError):
        return _no_revision(repository, where)
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return _no_entry(repository, where, name)
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(where, error.response.status_code, error.server_message)
    wrapper = isinstance(error, (errors.LocalEntryNotFoundError, ValueError))
    if wrapper and error.__cause__ is not None:
        return _tell(repository, name, error.__cause__)
    if isinstance(error, errors.LocalTokenNotFoundError):
        return _no_token(where)
    # A connection that fails in one thread closes the session that the client shares between all of them.
    closed = isinstance(error, RuntimeError) and "client has been closed" in str(error)
    if closed or isinstance(
        error, (_http_error(), errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)
    ):
        return _unreachable(repository, error)
    if isinstance(error, errors.FileMetadataError):
        return no_hub(
            where, expected="a commit and an ETag with every file", found=str(error).splitlines()[0]
        )
    return _storage(where, error) if isinstance(error, OSError) else None


def _unreachable(repository: Repository, error: BaseException) -> HubUnreachableError:
    """Make the error for a Hub that gives no answer."""
    return HubUnreachableError(
        f"the Hub could not be reached for {repository.label}",
        where=repository.url,
        expected="an answer, or a copy in the download cache",
        found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}",
        hint="check the network, the proxy and HF_ENDPOINT, then load again; files that have arrived are kept",
    )


def no_hub(where: str, *, expected: str, found: str) -> SourceError:
    """Make the error for a server that does not speak the Hub's language."""
    return SourceError(
        "the server does not answer as the Hub does",
        where=where,
        expected=expected,
        found=found,
        hint="check HF_ENDPOINT and the proxy",
    )


def _http_error() -> type[Exception]:
    """Return the root of the HTTP library's errors; which library it is depends on the client's version."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__bases__ if base is not OSError)


def _gated(repository: Repository, where: str, status: int) -> SourceError:
    return SourceError(
        f"'{repository.name}' is gated: its files are given only to those who accepted its terms",
        where=where,
        expected="a token of an account that accepted the terms",
        found=f"HTTP {status}: "
        + ("no valid token was sent" if status == 401 else "this account has not accepted"),
        hint=f"accept the terms at {repository.url}, then run `hf auth login` or pass token='hf_...'",
    )


def _no_repository(repository: Repository, where: str, status: int) -> SourceError:
    return SourceError(
        f"'{repository.name}' is neither a folder here nor a repository on the Hub that you may see",
        where=where,
        expected="an existing folder, or the id of a public repository or of one that your token may read",
        found=f"HTTP {status}",
        hint="check the spelling; for a private repository run `hf auth login` or pass token='hf_...'",
    )


def _no_revision(repository: Repository, where: str) -> SourceError:
    return SourceError(
        f"'{repository.name}' has no revision '{repository.revision}'",
        where=where,
        expected="a branch, a tag or a commit of 40 hexadecimal digits",
        found=repr(repository.revision),
        hint=f"see {repository.url}/tree/main for its branches and tags, or leave `revision` out",
    )


def _no_entry(repository: Repository, where: str, name: str | None) -> SourceError:
    return SourceError(
        f"'{name}' is listed in {repository.label}, but the Hub does not give it out",
        where=where,
        expected="the file's content",
        found="HTTP 404, EntryNotFound",
        hint="load again; if it stays away, ask the repository's owner",
    )


def _refused(where: str, status: int, reason: str | None) -> SourceError:
    found = f"HTTP {status}: {reason or 'no reason given'}"
    if status in TRANSIENT:
        return HubUnreachableError(
            "the Hub is busy or down",
            where=where,
            expected="HTTP 200 or 206",
            found=found,
            hint="load again later; files that have arrived are kept",
        )
    return SourceError(
        "the Hub refused a request",
        where=where,
        expected="HTTP 200 or 206",
        found=found,
        hint="check that your token may read the repository",
    )


def _no_token(where: str) -> SourceError:
    return SourceError(
        "token=True asks for the stored access token, and none is stored",
        where=where,
        expected="a token from `hf auth login` or in HF_TOKEN",
        found="none",
        hint="run `hf auth login`, or pass token='hf_...'",
    )


def _storage(where: str, error: OSError) -> SourceError | None:
    """Tell a full disk, a download that arrived short, and what else the system says of the download cache."""
    if error.errno == errno.ENOSPC:
        told = SourceError(
            "the disk that holds the download cache is full",
            where=where,
            expected=f"room in {error.filename}" if error.filename else "room in the download cache",
            found=error.strerror,
            hint="free some space, or choose another disk with cache_dir=... or HF_HOME",
        )
        told.errno = errno.ENOSPC
        return told
    if error.errno is None and "Consistency check failed" in str(error):
        return SourceError(
            "a download did not arrive whole",
            where=where,
            expected="as many bytes as the Hub announced",
            found=str(error).splitlines()[0],
            hint="load again; if it happens again, a proxy between here and the Hub cuts files",
        )
    if error.errno is None:
        return None
    told = SourceError(
        f"the download cache cannot be used: {error.strerror or error}",
        where=error.filename or where,
        hint="see to the rights and the disk of that folder, or choose another with cache_dir=... or HF_HOME",
    )
    told.errno = error.errno
    return told
