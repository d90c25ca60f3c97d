"""What TensorFlow can, for the proofs of `loadstone.testing`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from loadstone.testing import (
    Attentions,
    Caches,
    Computes,
    Differentiates,
    Embeds,
    Generates,
    Halves,
    HiddenStates,
    Losses,
    Masks,
)
from loadstone_tensorflow.modeling import submodule

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


class TensorFlow(
    Masks, Embeds, HiddenStates, Attentions, Losses, Halves, Differentiates, Caches, Generates, Computes
):
    """TensorFlow."""

    backend = "tensorflow"

    def native(self, array: np.ndarray) -> tf.Tensor:
        return tf.constant(array)

    def array(self, value: tf.Tensor) -> np.ndarray:
        return (
            tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else tf.convert_to_tensor(value)
        ).numpy()

    def differentiate(
        self, model: Any, arguments: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        variables = [submodule(model, name).value for name in names]
        with tf.GradientTape() as tape:
            output = model(**arguments)
        return output, dict(zip(names, tape.gradient(output.loss, variables), strict=True))
