"""Reading a few bytes of a file on the Hub without downloading the rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from loadstone.errors import SourceError
from loadstone.source.hub_errors import HubUnreachableError, Repository, plain_errors

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 3
PAUSE = 0.5
"""Seconds before the second attempt; twice as long before the third."""


def read_hub_range(
    repository: Repository, name: str, *, commit: str, size: int, offset: int, length: int
) -> bytes:
    """Read exactly `length` bytes from `offset` on of a file at a commit.

    A connection that breaks is tried twice more.

    Args:
        repository: The repository that holds the file.
        name: The file's name, from the top of the repository.
        commit: The commit to read from.
        size: The length that the whole file must have, in bytes.
        offset: The first byte wanted.
        length: How many bytes are wanted, at least one.

    Raises:
        SourceError: The Hub does not give the file out, ignores the range, or holds a file of another size.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with plain_errors(repository, name):
                return _request(repository, name, commit=commit, size=size, offset=offset, length=length)
        except HubUnreachableError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE * attempt)
    raise AssertionError("the last attempt returns or raises")


def _request(repository: Repository, name: str, *, commit: str, size: int, offset: int, length: int) -> bytes:
    from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # loaded lazily there

    from loadstone import __version__

    headers = {
        **build_hf_headers(token=repository.token, library_name="loadstone", library_version=__version__),
        "Range": f"bytes={offset}-{offset + length - 1}",
        # Compressed content would have other offsets.
        "Accept-Encoding": "identity",
    }
    where = f"{repository.url}: {name}"
    url = hf_hub_url(repository.name, name, revision=commit)
    with get_session().stream(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        _check_range(response, where, f"bytes {offset}-{offset + length - 1}/{size}")
        return _body(response, where, length)


def _check_range(response: httpx2.Response, where: str, expected: str) -> None:
    """Refuse an answer that is not the range asked for, before its body is read: it may be the whole file."""
    found = response.headers.get("Content-Range", "no range")
    if response.status_code == 206 and found == expected:
        return
    raise SourceError(
        "the server answered a range request with something else",
        where=where,
        expected=f"HTTP 206, {expected}",
        found=f"HTTP {response.status_code}, {found}",
        hint="check HF_ENDPOINT and the proxy: one of them does not pass range requests on",
    )


def _body(response: httpx2.Response, where: str, length: int) -> bytes:
    data = bytearray()
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > length:
            break
    if len(data) == length:
        return bytes(data)
    raise SourceError(
        "the server sent another number of bytes than it announced",
        where=where,
        expected=f"{length:,} bytes",
        found=f"{len(data):,} bytes",
        hint="load again; if it happens again, a proxy between here and the Hub changes files",
    )
