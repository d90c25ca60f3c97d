"""Configurations larger than their checkpoint, in TensorFlow."""

from tests.oracle.oversized import OversizedSuite


class TestTensorFlow(OversizedSuite):
    backend = "tensorflow"
