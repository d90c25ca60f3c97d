"""What the clients of stores and servers raise, told as one of loadstone's errors; they agree on no classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from loadstone.errors import LoadstoneError, SourceError

T = TypeVar("T")

ATTEMPTS = 3
PAUSE = 0.25
"""Seconds before the second attempt; twice as long before the third."""

_CUT = {
    "ClientConnectionError",
    "ClientPayloadError",
    "HTTPClientError",
    "IncompleteReadError",
    "TransportError",
}
"""Names of classes of aiohttp, botocore and httpx for a connection that broke."""
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError"}


def attempt(action: Callable[[], T], *, where: str) -> T:
    """Return what a request gives; one that may go better the next time is tried `ATTEMPTS` times.

    Raises:
        SourceError: It failed; the message says whether credentials, the address or the connection is at fault.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return action()
        except LoadstoneError:
            raise
        except Exception as error:  # each client has a tree of its own
            if number == ATTEMPTS or not _may_pass(error):
                raise told(error, where=where) from error
            time.sleep(PAUSE * number)
    raise AssertionError("the last attempt returns or raises")


def is_missing(error: BaseException) -> bool:
    """Return whether an error says that there is no such file, and not that nobody answered."""
    return isinstance(error, FileNotFoundError) and not _is_cut(error) and status(error) in (None, 404, 410)


def is_denied(error: BaseException) -> bool:
    """Return whether an error says that the caller may not read."""
    return (
        status(error) in (401, 403)
        or isinstance(error, PermissionError)
        or any(_named(one, _NO_CREDENTIALS) for one in _chain(error))
    )


def status(error: BaseException) -> int | None:
    """Return the HTTP status that is behind an error, None where none came."""
    for one in _chain(error):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore's
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(response, "status_code", None) or getattr(one, "status", None)
        found = found or getattr(one, "code", None)
        if isinstance(found, int) and 100 <= found < 600:
            return found
    return None


def told(error: BaseException, *, where: str) -> SourceError:
    """Make the error for what a client raised."""
    said = f"{type(error).__name__}: {str(error)[:300]}"
    if is_denied(error):
        return SourceError(
            "the source does not let you read: the credentials are wrong, or none were found",
            where=where,
            found=said,
            hint="give credentials as the store's own tools take them (environment or profile), or pass "
            "loadstone_fsspec.open_address(address, **options)",
        )
    if is_missing(error):
        return SourceError(
            "there is no such file or folder", where=where, found=said, hint="check the address"
        )
    if isinstance(error, ImportError):
        return SourceError(
            "what reads this kind of address is not installed",
            where=where,
            found=said,
            hint="pip install 'loadstone[fsspec]'",
        )
    return SourceError(
        f"the source cannot be read, after {ATTEMPTS} attempts"
        if _may_pass(error)
        else "the source cannot be read",
        where=where,
        found=said,
        hint="see to the connection and the store, then load again",
    )


def _may_pass(error: BaseException) -> bool:
    if _is_cut(error):  # aiohttp tells of an answer that broke off as a bad request
        return True
    if is_denied(error) or is_missing(error) or isinstance(error, ImportError):
        return False
    found = status(error)
    if found is None:
        return isinstance(error, OSError)
    return found >= 500 or found in (408, 429)


def _is_cut(error: BaseException) -> bool:
    return any(isinstance(one, ConnectionError | TimeoutError) or _named(one, _CUT) for one in _chain(error))


def _named(error: BaseException, names: set[str]) -> bool:
    return not names.isdisjoint(cls.__name__ for cls in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(8):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
