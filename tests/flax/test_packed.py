"""Several sequences in one row."""

from typing import Any

import jax
import numpy as np
import pytest

from tests.oracle.packed import PackedSuite

pytestmark = pytest.mark.usefixtures("compile_little")


class TestPacked(PackedSuite):
    backend = "flax"

    def logits(self, model: Any, ids: np.ndarray, **inputs: Any) -> np.ndarray:
        return np.asarray(model(ids, **inputs).logits)

    def traced(self, model: Any, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        run = jax.jit(lambda ids, positions: model(ids, position_ids=positions, use_cache=False).logits)
        return np.asarray(run(ids, positions))
