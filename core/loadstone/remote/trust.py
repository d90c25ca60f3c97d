"""Whether the caller said that the code of a repository may run. Nothing else decides it: no file, no prompt, no default."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable

from loadstone.errors import ArgumentError, UntrustedCodeError, logger_of
from loadstone.remote.code import Code, told
from loadstone.source.cache import COMMIT
from loadstone.source.hub import is_repository_id

logger = logger_of(__name__)

STRICT = "LOADSTONE_REQUIRE_PINNED_CODE"
"""The environment variable under which code runs only where the caller names its commit or its digest."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the caller trusts.

    Attributes:
        everything: `trust_remote_code=True`.
        named: What a list names: "org/repo@<40 hex>", "sha256:<64 hex>".
    """

    everything: bool = False
    named: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.everything or bool(self.named)

    def commit_of(self, repository: str) -> str | None:
        """Return the commit of a repository that is trusted by name, where there is one alone."""
        found = {entry.rpartition("@")[2] for entry in self.named if entry.rpartition("@")[0] == repository}
        return found.pop() if len(found) == 1 else None


NO_TRUST = Trust()
"""What is trusted where the caller says nothing."""


def trust_of(said: object) -> Trust:
    """Return what `trust_remote_code=` says.

    Raises:
        ArgumentError: If it is neither True, False, None nor a list of what can be trusted.
    """
    if said is None or isinstance(said, bool):
        return Trust(everything=bool(said))
    entries = list(said) if isinstance(said, list | tuple | set | frozenset) else [said]
    wrong = [entry for entry in entries if not _is_entry(entry)]
    if wrong or isinstance(said, str):
        raise ArgumentError(
            "trust_remote_code= names something that cannot be trusted",
            where="trust_remote_code",
            expected='True, False, or a list of "org/repo@<commit of 40 hexadecimal digits>" and "sha256:<64 digits>"',
            found=f"{said!r:.120}",
            hint="leave it out to see what the checkpoint's code is, and what to write here",
        )
    return Trust(named=tuple(map(str, entries)))


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, str):
        return False
    repository, _, commit = entry.rpartition("@")
    named = is_repository_id(repository) and COMMIT.fullmatch(commit) is not None
    return named or DIGEST.fullmatch(entry) is not None


def check_trusted(code: Code, trust: Trust, *, pinned: bool, wanted: str) -> None:
    """Return where code may run, and warn where nobody says which commit is meant.

    Args:
        code: What would run.
        trust: What the caller trusts.
        pinned: Whether the caller named the commit.
        wanted: What needs it, for the message.

    Raises:
        UntrustedCodeError: If it may not, or if commits must be named and this one is not.
    """
    by_name = f"{code.location}@{code.commit}" in trust.named or f"sha256:{code.digest}" in trust.named
    if by_name:
        return
    if not trust.everything:
        raise untrusted(code, wanted=wanted, some=bool(trust))
    if pinned:
        return
    if os.environ.get(STRICT, "0") not in ("", "0"):
        raise _unpinned(code)
    if code.commit is not None:
        logger.warning(
            "%s: code of the checkpoint's author runs at commit %s, which nobody pinned: another load may run other code;"
            " pass revision=%r, or trust_remote_code=[%r]",
            code.location,
            code.commit,
            code.commit,
            f"{code.location}@{code.commit}",
        )


def untrusted(code: Code, *, wanted: str, some: bool = False) -> UntrustedCodeError:
    """Make the error for code that the caller does not trust: what would run, what that imports, and how to name it."""
    files = [f"would run: {name}" for name in told(code.modules)]
    absent = [f"is not there: {name}" for name in told((*code.missing, *code.absent))]
    imports = ", ".join(told(code.imports)) or "nothing"
    return UntrustedCodeError(
        f"{wanted} needs code of the checkpoint's author, which "
        + ("is not among what trust_remote_code= names" if some else "is never run unless you trust it"),
        where=code.location,
        expected=_pinned(code) if code.files else None,
        found=f"{len(code.modules)} file(s), which import {imports}",
        problems=[*files, *absent],
        hint="read these files first (trust_remote_code=True trusts whatever the repository holds); install a plugin that"
        ' adds the model type; or, if the weights are those of a type that loadstone has, pass model_type="llama", say',
    )


def untrusted_elsewhere(
    repository: str, names: Iterable[str], *, where: object, wanted: str
) -> UntrustedCodeError:
    """Make the error for code of another repository: without trust it is not even looked at."""
    return UntrustedCodeError(
        f"{wanted} needs code of another repository, named by config.json's auto_map, which is never run unless you trust it",
        where=where,
        expected=f'trust_remote_code=["{repository}@<commit>"], or True with code_revision="<commit>"',
        found=f"auto_map leads to '{repository}': nothing of it was looked at",
        problems=[f"would run: {name}, and what it imports" for name in told(names)],
        hint=f"read these files at https://huggingface.co/{repository} first, and pin the commit that you read",
    )


def _entry(code: Code) -> str:
    return f"{code.location}@{code.commit}" if code.commit else f"sha256:{code.digest}"


def _pinned(code: Code) -> str:
    """Return what to write so that this code, and no other, is trusted."""
    other = f", or True with revision={code.commit!r}" if code.commit else ""
    return f"trust_remote_code=[{_entry(code)!r}]{other}"


def _unpinned(code: Code) -> UntrustedCodeError:
    return UntrustedCodeError(
        f"{STRICT} is set, and nobody says which code is trusted",
        where=code.location,
        expected=_pinned(code),
        found="trust_remote_code=True "
        + ("without a commit" if code.commit else "for a folder, which has no commit"),
        hint="name the code that you have read",
    )
