"""Several sequences in one row: a backend's tests subclass `PackedSuite` and inherit these."""

from typing import Any, ClassVar

import numpy as np
import pytest

import loadstone
from loadstone.testing.compare import assert_close
from tests.oracle import load

CASES = (
    "llama-causal-lm",
    "mistral-causal-lm",
    "gemma2-causal-lm",
    "gpt2-causal-lm",
)
LENGTHS = ((9, 4, 7), (1, 12, 7))
"""Tokens of the sequences of each row: more than a window, fewer, and one."""
POSITIONS = np.array([[place for length in row for place in range(length)] for row in LENGTHS])


def pieces() -> list[tuple[int, slice]]:
    """Return row and place of each sequence."""
    ends = [np.cumsum(row).tolist() for row in LENGTHS]
    return [
        (row, slice(end - length, end))
        for row, lengths in enumerate(LENGTHS)
        for length, end in zip(lengths, ends[row], strict=True)
    ]


class PackedSuite:
    """Every check for one backend.

    Attributes:
        backend: Its name.
    """

    backend: ClassVar[str]

    def logits(self, model: Any, ids: np.ndarray, **inputs: Any) -> np.ndarray:
        """Call the model and return its logits (B, T, V)."""
        raise NotImplementedError

    def traced(self, model: Any, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the same of a function that knows no values when it is compiled, without a mask and a cache."""
        raise NotImplementedError

    @pytest.mark.parametrize("case", CASES)
    def test_each_sequence_is_as_alone(self, case: str) -> None:
        model = loadstone.AutoModelForCausalLM.from_pretrained(load.folder(case), backend=self.backend)
        ids = load.run(case, "plain").inputs["input_ids"]
        found = self.logits(model, ids, position_ids=POSITIONS, use_cache=False)
        for row, place in pieces():
            alone = self.logits(model, ids[row : row + 1, place], use_cache=False)
            assert_close(found[row : row + 1, place], alone, what=f"{case} {row} {place}")
        traced = self.traced(model, ids, POSITIONS)
        assert_close(traced, found, what=f"{case}, traced")
        whole = np.arange(ids.shape[1])[None].repeat(len(ids), 0)
        assert_close(
            self.traced(model, ids, whole), self.logits(model, ids, use_cache=False), what=f"{case}, one"
        )
