"""Several sequences in one row are what they are in transformers: apart without a mask and a cache, else one."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import loadstone
from loadstone.testing.compare import assert_close
from tests.oracle import load
from tests.oracle.packed import CASES, POSITIONS

BACKENDS = ("torch", "flax", "tensorflow")
JUMPING = np.array([[3, 4, 5, 9, 10, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]])
"""Positions of one row for all rows: they start anywhere, jump ahead, stand still and go back."""
RUNS: dict[str, dict[str, Any]] = {
    "packed": {"position_ids": POSITIONS, "use_cache": False},
    "jumping": {"position_ids": JUMPING, "use_cache": False},
    "cached": {"position_ids": POSITIONS, "use_cache": True},
    "masked": {"position_ids": POSITIONS, "use_cache": False, "attention_mask": np.ones_like(POSITIONS)},
}


def on_torch(inputs: dict[str, Any]) -> dict[str, Any]:
    return {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in inputs.items()}


@pytest.mark.parametrize("case", CASES)
def test_transformers_answers_the_same(case: str) -> None:
    ids = load.run(case, "plain").inputs["input_ids"]
    oracle = transformers.AutoModelForCausalLM.from_pretrained(load.folder(case), dtype=torch.float32)
    models = {
        b: loadstone.AutoModelForCausalLM.from_pretrained(load.folder(case), backend=b) for b in BACKENDS
    }
    for name, inputs in RUNS.items():
        given = {"input_ids": ids, **inputs}
        with torch.no_grad():
            expected = oracle(**on_torch(given)).logits.numpy()
        for backend, model in models.items():
            output = model(**(on_torch(given) if backend == "torch" else given))
            logits = output.logits.detach() if backend == "torch" else output.logits
            assert_close(np.asarray(logits), expected, what=f"{case} {name} {backend}")
