"""What keeps a checkpoint and a model apart, collected, and the next step that fits it."""

from __future__ import annotations

from typing import Literal

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
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._kinds: set[Kind] = set()

    def add(self, kind: Kind, line: str) -> None:
        """Record one."""
        self._kinds.add(kind)
        self.lines.append(line)

    def advice(self) -> str:
        """Return the next step."""
        return next(advice for kind, advice in ADVICE.items() if kind in self._kinds)
