"""What keeps a checkpoint and a model apart, collected, and the next step that fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from loadstone.errors import SourceError, counted

Kind = Literal["quantised", "missing", "rivals", "shape", "dtype", "surplus", "strict"]

# What to do about each kind of problem; of several kinds the first one here decides.
ADVICE: dict[Kind, str] = {
    "quantised": "load a checkpoint of this model that is not quantised",
    "rivals": "remove one of the two tensors, or correct key_mapping=",
    "missing": "fetch the checkpoint again, correct config.json, or rename with key_mapping=",
    "shape": "correct config.json or the argument that changes it, or draw such parameters afresh with"
    " ignore_mismatched_sizes=True",
    "dtype": "pass another dtype=",
    "surplus": "correct config.json, or pass strict=False to leave such tensors out",
    "strict": "leave strict= out, to be warned of strangers and no more",
}


class Problems:
    """The problems of one matching, in the order in which they were found.

    Attributes:
        lines: One line for each.
        absent: File -> the tensors in it that are needed, where it is not here: no problem of the two, but nothing can be
            said without it.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.absent: dict[str, list[str]] = {}
        self._kinds: set[Kind] = set()

    def add(self, kind: Kind, line: str) -> None:
        """Record one."""
        self._kinds.add(kind)
        self.lines.append(line)

    def need(self, tensor: str, file: str) -> None:
        """Record a tensor that is needed and lies in a file that is not here."""
        self.absent.setdefault(file, []).append(tensor)

    def advice(self) -> str:
        """Return the next step."""
        return next(advice for kind, advice in ADVICE.items() if kind in self._kinds)


def not_here(files: Mapping[str, Sequence[str]], *, where: object) -> SourceError:
    """Make the error for files that are not here and of which something is needed.

    Args:
        files: File -> the tensors in it that are needed.
        where: The repository.
    """
    return SourceError(
        f"the download cache lacks {counted(len(files), 'file')} that this load needs",
        where=where,
        problems=[
            f"{file}, which holds {tensors[0]}"
            + (f" and {len(tensors) - 1:,} more of what is needed" if len(tensors) > 1 else "")
            for file, tensors in sorted(files.items())
        ],
        hint=f"load once with network access, which fetches the rest, or run `hf download {where}` for this revision",
    )
