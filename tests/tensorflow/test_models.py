"""Every architecture and task that TensorFlow has, against transformers."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from loadstone_tensorflow.modeling import submodule
from tests.oracle.parity import ParitySuite
from tests.oracle.real import RealSuite

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


class TestTensorFlow(ParitySuite, RealSuite):
    backend = "tensorflow"

    def native(self, array: np.ndarray) -> tf.Tensor:
        return tf.constant(array)

    def array(self, value: tf.Tensor) -> np.ndarray:
        return (tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value).numpy()

    def gradients(self, model: Any, arguments: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
        variables = [submodule(model, name).value for name in names]
        with tf.GradientTape() as tape:
            loss = model(**arguments).loss
        found = tape.gradient(loss, variables)
        return {
            name: tf.convert_to_tensor(gradient).numpy() for name, gradient in zip(names, found, strict=True)
        }


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_no_other_framework_is_there(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
