"""What layers do in training, where the parity suite does not look."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from loadstone_tensorflow.layers import BatchNorm, without_memory

BATCHES = np.random.default_rng(0).normal(2.0, 3.0, (2, 4, 5, 6, 3)).astype(np.float32)  # two of (B, H, W, C)


def fresh() -> BatchNorm:
    """Return a batch norm of three channels as PyTorch starts it."""
    with without_memory("float32"):
        norm = BatchNorm(3)
    for variable, value in (
        (norm.weight, 1.0),
        (norm.bias, 0.0),
        (norm.running_mean, 0.0),
        (norm.running_var, 1.0),
    ):
        variable.fill(tf.fill((3,), value))
    norm.num_batches_tracked.fill(tf.constant(0, tf.int64))
    return norm


def check(norm: BatchNorm, last: tf.Tensor) -> None:
    """Hold the last output and the statistics against PyTorch's rule: momentum 0.1, the unbiased variance."""
    mean, variance = np.zeros(3), np.ones(3)
    for batch in BATCHES.astype(np.float64):
        mean = 0.9 * mean + 0.1 * batch.mean((0, 1, 2))
        variance = 0.9 * variance + 0.1 * batch.var((0, 1, 2), ddof=1)
    batch = BATCHES[-1].astype(np.float64)
    expected = (batch - batch.mean((0, 1, 2))) / np.sqrt(batch.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(last.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(norm.running_mean.value.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.value.numpy(), variance, rtol=1e-5)
    assert norm.num_batches_tracked.value.numpy() == len(BATCHES)


@pytest.mark.parametrize("compiled", [lambda function: function, tf.function], ids=["eager", "graph"])
def test_batch_norm_trains_as_pytorch_does(compiled: Callable) -> None:
    norm = fresh()
    call = compiled(lambda x: norm(x, True))
    outputs = [call(tf.constant(batch)) for batch in BATCHES]
    check(norm, outputs[-1])
    assert [v is norm.weight or v is norm.bias for v in norm.trainable_variables] == [True, True]


def test_batch_norm_trains_on_several_devices() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        norm = fresh()
    step = tf.function(lambda x: norm(x, True))
    outputs = [strategy.run(step, (tf.constant(batch),)) for batch in BATCHES]
    for replica in strategy.experimental_local_results(outputs[-1]):
        check(norm, replica)


def test_batch_norm_infers_from_the_running_statistics_and_leaves_them() -> None:
    norm = fresh()
    x = tf.constant(BATCHES[0])
    np.testing.assert_allclose(norm(x, False).numpy(), BATCHES[0] / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert norm.num_batches_tracked.value.numpy() == 0
    assert not norm.running_mean.value.numpy().any()
