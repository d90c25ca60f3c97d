"""Refusing a file: every complaint names it, and what there is to do."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from loadstone.errors import CheckpointError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The file that is read, and the folder or repository in which it lies."""

    file: str
    where: object

    def refuse(
        self,
        what: str,
        *,
        key: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> NoReturn:
        """Refuse the file.

        Raises:
            CheckpointError: Always.
        """
        place = f"{self.file} in {self.where}"
        raise CheckpointError(
            f"{self.file} {what}",
            where=place if key is None else f"{place}, key {key!r:.80}",
            expected=expected,
            found=found,
            hint=hint or "it was damaged, or cut short by a download or a full disk: fetch the file again",
        )
