"""Refusing a file of weights: one way for every part of the reading."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from loadstone.errors import CheckpointError, shown


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The file that is read, and where it lies; every complaint carries both."""

    file: str
    where: object

    def fail(
        self,
        what: str,
        *,
        key: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        cause: Exception | None = None,
    ) -> NoReturn:
        """Refuse the file.

        Raises:
            CheckpointError: Always.
        """
        place = f"{self.file} in {self.where}"
        raise CheckpointError(
            f"{self.file} {what}",
            where=place if key is None else f"{place}, key {shown(key)}",
            expected=expected,
            found=found,
            hint=hint or "it was damaged, or cut short by a download or a full disk: fetch the file again",
        ) from cause
