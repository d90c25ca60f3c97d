"""Several sequences in one row."""

from typing import Any

import numpy as np
import tensorflow as tf

from tests.oracle.packed import PackedSuite


class TestPacked(PackedSuite):
    backend = "tensorflow"

    def logits(self, model: Any, ids: np.ndarray, **inputs: Any) -> np.ndarray:
        return model(ids, **inputs).logits.numpy()

    def traced(self, model: Any, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        signature = [tf.TensorSpec((None, None), tf.int64)] * 2
        run = tf.function(
            lambda ids, positions: model(ids, position_ids=positions, use_cache=False).logits,
            signature,
            autograph=False,
            jit_compile=True,
        )
        return run(ids, positions).numpy()
